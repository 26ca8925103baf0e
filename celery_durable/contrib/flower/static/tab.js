/* Live refresh: fetches the part of the page that changes, rendered and escaped by the server, and puts it in place. */
(function () {
  "use strict";
  var place = document.getElementById("durable-live");
  if (!place) { return; }
  var every = Number(place.dataset.every), failures = 0, first;

  function status() {
    var badge = document.getElementById("durable-status");
    return badge === null ? "" : badge.textContent + " " + badge.dataset.awaited;
  }

  function isOver() { return place.querySelector("[data-over]") !== null; }

  function opened() {
    var found = {};
    place.querySelectorAll("details[data-key]").forEach(function (each) { found[each.dataset.key] = each.open; });
    return found;
  }

  function put(html) {
    var before = opened();
    if (place.contains(document.activeElement) && document.activeElement !== place) { return; }
    place.innerHTML = html;
    place.querySelectorAll("details[data-key]").forEach(function (each) {
      if (each.dataset.key in before) { each.open = before[each.dataset.key]; }
    });
  }

  function wait() {
    if (!isOver()) { window.setTimeout(look, every * Math.pow(2, Math.min(failures, 4))); }
  }

  function look() {
    if (document.hidden) { wait(); return; }
    fetch(place.dataset.url, { credentials: "same-origin" }).then(function (answer) {
      if (!answer.ok) { throw new Error(String(answer.status)); }
      return answer.text();
    }).then(function (html) {
      failures = 0;
      place.classList.remove("durable-stale");
      put(html);
      if (status() !== first && !document.querySelector(".durable-verb[open]")) {
        window.location.replace(place.dataset.page);  // what can be done with it is another
        return;
      }
      wait();
    }).catch(function () {
      failures += 1;
      place.classList.add("durable-stale");
      wait();
    });
  }

  first = status();
  wait();
}());
