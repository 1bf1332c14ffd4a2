// Keeps the page up to date. Without it the page is the same, as of when it was loaded: the server makes all of it.
"use strict";
(() => {
  const main = document.querySelector("main[data-stream]");
  if (!main || !window.EventSource) return;
  const news = document.getElementById("news");
  const state = document.getElementById("live-state");
  state.hidden = false;
  const say = (text) => { if (state.textContent !== text) state.textContent = text; };

  // Rows are matched by their ids, so that a row that did not change stays the same element: what is selected or has the
  // focus in it stays so.
  const rows = (old, next) => {
    const known = new Map([...old.children].map((row) => [row.id, row]));
    const want = [...next.children].map((row) => {
      const before = known.get(row.id);
      if (before && before.outerHTML === row.outerHTML) return before;
      const now = document.importNode(row, true);
      if (before && before.dataset.state !== now.dataset.state) now.classList.add("changed");
      return now;
    });
    if (want.length !== old.children.length || want.some((row, i) => row !== old.children[i])) old.replaceChildren(...want);
  };

  // How to find what has the focus again, if its element is replaced.
  const place = () => {
    const at = document.activeElement;
    const row = at && at.closest("[data-live] [id]");
    return row && at.tagName === "A" ? [row.id, [...row.querySelectorAll("a")].indexOf(at)] : null;
  };
  const back = (was) => {
    if (!was || document.activeElement !== document.body) return;
    const link = document.getElementById(was[0])?.querySelectorAll("a")[was[1]];
    if (link) link.focus({ preventScroll: true });
  };

  const selecting = () => { const s = window.getSelection(); return s && !s.isCollapsed; };

  let busy = false;
  const refresh = async () => {
    if (busy || document.hidden || selecting()) return;
    busy = true;
    try {
      const response = await fetch(location.pathname + location.search);
      if (!response.ok) return;
      const next = new DOMParser().parseFromString(await response.text(), "text/html");
      const was = place();
      for (const old of document.querySelectorAll("[data-live]")) {
        const now = next.getElementById(old.id);
        if (!now) continue;
        if (old.hasAttribute("data-rows")) rows(old, now);
        else if (old.innerHTML !== now.innerHTML) old.replaceChildren(...document.importNode(now, true).childNodes);
      }
      document.title = next.title;
      back(was);
    } catch {
      // the stream says so too, and is tried again
    } finally {
      busy = false;
    }
  };

  const stream = new EventSource("/events");
  stream.addEventListener("open", () => say("live"));
  stream.addEventListener("error", () => say("not live: the server does not answer"));
  stream.addEventListener("tick", () => { say("live"); refresh(); });
  stream.addEventListener("change", (e) => {
    const c = JSON.parse(e.data);
    news.textContent = `${c.address} is ${c.to}${c.reason ? ": " + c.reason : ""}`;
  });
})();
