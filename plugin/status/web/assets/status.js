// Keeps the page up to date. Without it the page is the same, as of when it was loaded: the server makes all of it.
"use strict";
(() => {
  const main = document.querySelector("main[data-stream]");
  if (!main || !window.EventSource) return;
  const news = document.getElementById("news");
  const state = document.getElementById("live-state");
  state.hidden = false;
  const patience = 5000; // in milliseconds: after so long without news the page is stale
  const say = (text) => { if (state.textContent !== text) state.textContent = text; };

  // What is selected stays as it is, so that it can be copied: a part that would change under it waits, and no other.
  const selected = (part) => {
    const s = window.getSelection();
    return s && !s.isCollapsed && s.rangeCount > 0 && s.getRangeAt(0).intersectsNode(part);
  };

  // Rows are matched by their ids, so that a row that did not change stays the same element: what has the focus in it keeps it.
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

  // How things stand: when the page was as new as it could be, whether the last look failed, and whether a part waits.
  let fresh = Date.now(), failed = false, held = false, busy = false;
  const tell = () => {
    if (failed || Date.now() - fresh > patience) say(`stale since ${new Date(fresh).toISOString().slice(0, 19).replace("T", " ")} UTC`);
    else say(held ? "paused: text is selected" : "live");
  };

  const refresh = async () => {
    if (busy || document.hidden) return;
    busy = true;
    let good = false;
    try {
      const began = Date.now();
      const response = await fetch(location.pathname + location.search);
      if (!response.ok) return;
      const next = new DOMParser().parseFromString(await response.text(), "text/html");
      const was = place();
      held = false;
      for (const old of document.querySelectorAll("[data-live]")) {
        const now = next.getElementById(old.id);
        if (!now || old.innerHTML === now.innerHTML) continue;
        if (selected(old)) held = true;
        else if (old.hasAttribute("data-rows")) rows(old, now);
        else old.replaceChildren(...document.importNode(now, true).childNodes);
      }
      document.title = next.title;
      back(was);
      [fresh, good] = [began, true];
    } catch {
      // it is tried again, and the page says how old it is
    } finally {
      [busy, failed] = [false, !good];
      tell();
    }
  };

  // A browser has six connections to a server and no more, for all its tabs: so only a page that is seen has a stream.
  let stream = null;
  const follow = () => {
    stream = new EventSource("/events");
    stream.addEventListener("tick", refresh);
    stream.addEventListener("change", (e) => {
      const c = JSON.parse(e.data);
      news.textContent = `${c.address} is ${c.to}${c.reason ? ": " + c.reason : ""}`;
    });
    // A stream that is refused, for there are too many, is none that a browser tries again by itself.
    stream.addEventListener("error", () => {
      if (stream?.readyState !== EventSource.CLOSED) return;
      stream = null;
      setTimeout(look, patience);
    });
    stream.addEventListener("lost", (e) => { news.textContent = `${JSON.parse(e.data).lost} changes more than are listed`; });
  };
  const look = () => {
    if (document.hidden) { stream?.close(); stream = null; }
    else if (!stream) { follow(); refresh(); }
  };
  document.addEventListener("visibilitychange", look);
  look();
  setInterval(tell, 1000); // also where nothing comes
})();
