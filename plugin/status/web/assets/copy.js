// Copies what a button names: the response of a URL (data-copy) or the text of an element (data-copy-text). Without this script
// there are links in place of the buttons, and text can be selected.
"use strict";
(() => {
  document.documentElement.classList.add("scripted"); // the style shows the buttons in place of the links
  const news = document.getElementById("news");
  const tell = (text) => { if (news) news.textContent = text; };

  // The clipboard of a browser is for secure origins alone, such as localhost. Elsewhere a selection is copied.
  const write = async (text) => {
    if (navigator.clipboard && window.isSecureContext) {
      await navigator.clipboard.writeText(text);
      return;
    }
    const area = document.createElement("textarea");
    const before = document.activeElement;
    area.value = text;
    area.readOnly = true;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    before?.focus({ preventScroll: true });
    if (!done) throw new Error("the browser does not allow it");
  };

  const read = async (button) => {
    if (button.dataset.copyText) return document.getElementById(button.dataset.copyText)?.textContent ?? "";
    const response = await fetch(button.dataset.copy);
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    return response.text();
  };

  // One listener for all buttons, since parts of the page are replaced while it is open.
  document.addEventListener("click", async (e) => {
    const button = e.target.closest?.("button[data-copy], button[data-copy-text]");
    if (!button) return;
    try {
      await write(await read(button));
      tell("copied");
    } catch (error) {
      tell(`not copied: ${error.message}`);
    }
  });
})();
