// Keep the progress of an order up to date: ask every second, less often if nothing changes, not at all when it is over.
"use strict";
(() => {
  const section = document.getElementById("progress");
  if (!section || section.dataset.over === "yes") return;
  const show = (name, text) => {
    const element = section.querySelector(`[data-${name}]`);
    if (element.textContent !== text) element.textContent = text;
  };
  let wait = 1000;
  let last = "";
  async function look() {
    let text = last;
    try {
      const answer = await fetch(section.dataset.url, { headers: { Accept: "application/json" } });
      if (answer.redirected || answer.status === 404) return; // logged out
      if (!answer.ok) throw new Error(answer.status);
      text = await answer.text();
      const progress = JSON.parse(text);
      show("stage", progress.stage);
      show("note", progress.note ? `: ${progress.note}` : "");
      show("parcel", progress.parcel || "not sent yet");
      section.querySelector("progress").value = progress.done;
      if (progress.is_over) return location.reload(); // other things can be done with it now
    } catch (error) {
      wait = Math.min(wait * 2, 30000); // the shop cannot be reached: try again later
    }
    wait = text === last ? Math.min(wait * 1.1, 10000) : 1000;
    last = text;
    setTimeout(look, wait);
  }
  setTimeout(look, wait);
})();
