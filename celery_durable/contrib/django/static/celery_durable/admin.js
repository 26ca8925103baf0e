// The list without this works: it selects all of a page at once, and counts what is selected.
'use strict';
{
    const toggle = document.getElementById('durable-toggle');
    const count = document.getElementById('durable-selected');
    const boxes = Array.from(document.querySelectorAll('input.durable-select'));
    const tell = () => {
        const number = boxes.filter((box) => box.checked).length;
        if (count) {
            count.textContent = number ? count.dataset.text.replace('%s', String(number)) : '';
        }
        if (toggle) {
            toggle.checked = number > 0 && number === boxes.length;
            toggle.indeterminate = number > 0 && number < boxes.length;
        }
    };
    if (toggle) {
        toggle.hidden = false;
        toggle.addEventListener('change', () => {
            boxes.forEach((box) => { box.checked = toggle.checked; });
            tell();
        });
    }
    boxes.forEach((box) => box.addEventListener('change', tell));
    tell();
}
