// The list without this works: it selects all of a page at once, and counts what is selected.
'use strict';
{
    const toggle = document.getElementById('durable-toggle');
    const count = document.getElementById('durable-selected');
    const boxes = () => Array.from(document.querySelectorAll('input.durable-select'));
    const tell = () => {
        const number = boxes().filter((box) => box.checked).length;
        if (count) {
            count.textContent = number ? count.dataset.text.replace('%s', String(number)) : '';
        }
        if (toggle) {
            toggle.checked = number > 0 && number === boxes().length;
            toggle.indeterminate = number > 0 && number < boxes().length;
        }
    };
    if (toggle) {
        toggle.hidden = false;
        toggle.addEventListener('change', () => {
            boxes().forEach((box) => { box.checked = toggle.checked; });
            tell();
        });
    }
    document.addEventListener('change', (event) => {
        if (event.target.matches('input.durable-select')) {
            tell();
        }
    });
    tell();
}
// What changes by itself is read again now and then: not while the page is hidden, or somebody works
// in it. What is unfolded stays so.
{
    const content = document.querySelector('[data-durable-refresh]');
    const parts = [
        '.durable-title', '#durable-explanation', '#durable-failure',
        '#durable-timeline > .durable-scroll', '#durable-tally', '#result_list tbody',
    ];
    const isBusy = () => document.hidden
        || document.querySelector('input.durable-select:checked, #durable-all:checked')
        || (document.activeElement && document.activeElement.matches('input, select, textarea'))
        || String(window.getSelection() || '');
    const put = (name, fresh) => {
        const old = document.querySelector(name);
        const found = fresh.querySelector(name);
        if (!old || !found || old.outerHTML === found.outerHTML) {
            return;
        }
        const unfolded = Array.from(old.querySelectorAll('details')).map((each) => each.open);
        found.querySelectorAll('details').forEach((each, number) => {
            each.open = number in unfolded ? unfolded[number] : each.open;
        });
        const left = old.scrollLeft;
        old.replaceWith(found);
        found.scrollLeft = left;
    };
    const refresh = async () => {
        if (!isBusy()) {
            const answer = await fetch(location.href);
            if (!answer.ok || answer.redirected) {
                return; // it is gone, or the user is signed out
            }
            const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
            if (!isBusy()) {
                parts.forEach((name) => put(name, fresh));
            }
            if (!fresh.querySelector('[data-durable-refresh]')) {
                return;
            }
        }
        wait();
    };
    const wait = () => setTimeout(
        () => refresh().catch(wait), 1000 * Number(content.dataset.durableRefresh),
    );
    if (content) {
        wait();
    }
}
