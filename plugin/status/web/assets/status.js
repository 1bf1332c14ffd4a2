// Keeps the page up to date: for each tick of the stream it loads the page again and replaces the parts that differ. The server
// renders everything, so without this script the page shows the same, as of when it was loaded.
"use strict";
(() => {
  const main = document.querySelector("main[data-stream]");
  if (!main || !window.EventSource) return;
  const news = document.getElementById("news");
  const state = document.getElementById("live-state");
  state.hidden = false;
  const patience = 5000; // in milliseconds: the page is stale if it could not be updated for this long after it had to be
  const setState = (text) => { if (state.textContent !== text) state.textContent = text; };

  // A part with selected text is not updated, so that the text can be copied. The other parts are.
  const selected = (part) => {
    const s = window.getSelection();
    return s && !s.isCollapsed && s.rangeCount > 0 && s.getRangeAt(0).intersectsNode(part);
  };

  // Makes an element equal to another one, and changes only what differs: what is the same keeps the focus, and costs no layout. What a
  // reader has unfolded stays so. Most of a page stays the same, and the browser compares a part at once faster than a script node by node.
  const same = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id ?? "") === (b.id ?? "");
  const update = (old, next) => {
    if (old.isEqualNode(next)) return;
    if (old.nodeType !== Node.ELEMENT_NODE) {
      old.data = next.data;
      return;
    }
    if (old.dataset?.state && old.dataset.state !== next.dataset.state) next.classList.add("changed");
    for (const { name, value } of next.attributes) if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
    for (const { name } of [...old.attributes]) if (name !== "open" && !next.hasAttribute(name)) old.removeAttribute(name);
    if (old.hasAttribute("data-rows")) updateRows(old, next);
    else if (old.nodeName === "DETAILS" && !old.open) updateFolded(old, next);
    else updateChildren(old, next);
  };

  // What is folded waits until a reader unfolds it, or the next page comes. Only its first line can be seen.
  let waiting = new WeakMap();
  const updateFolded = (old, next) => {
    waiting.set(old, next);
    const [before, after] = [old.firstElementChild, next.firstElementChild];
    if (before && after) update(before, after);
  };
  document.addEventListener("toggle", (e) => { // it does not bubble
    const next = waiting.get(e.target);
    waiting.delete(e.target);
    if (next && e.target.open) update(e.target, next);
  }, true);
  const updateChildren = (old, next) => {
    const [before, after] = [[...old.childNodes], [...next.childNodes]];
    if (before.length === after.length && before.every((x, i) => same(x, after[i]))) return before.forEach((x, i) => update(x, after[i]));
    const open = [...old.querySelectorAll("details")].map((x) => x.open);
    old.replaceChildren(...after.map((x) => document.importNode(x, true)));
    old.querySelectorAll("details").forEach((x, i) => { if (open[i]) x.open = true; });
  };

  // Rows are matched by id, so that one that has moved stays the same element.
  const updateRows = (old, next) => {
    const known = new Map([...old.children].map((row) => [row.id, row]));
    const want = [...next.children].map((row) => {
      const before = known.get(row.id);
      if (before) update(before, row);
      return before ?? document.importNode(row, true);
    });
    if (want.length !== old.children.length || want.some((row, i) => row !== old.children[i])) old.replaceChildren(...want);
  };

  // Where the focus is: the row and the number of the link, or of what unfolds, to find it again if its element is replaced.
  const links = "a, summary, svg";
  const focusedLink = () => {
    const at = document.activeElement;
    const row = at && at.closest("[data-live] [id]");
    return row && at.matches(links) ? [row.id, [...row.querySelectorAll(links)].indexOf(at)] : null;
  };
  const restoreFocus = (was) => {
    if (!was || document.activeElement !== document.body) return;
    const link = document.getElementById(was[0])?.querySelectorAll(links)[was[1]];
    if (link) link.focus({ preventScroll: true });
  };

  // When the page was last up to date, until when that is enough, whether the last refresh failed, whether the stream was refused, whether a part
  // waits, and whether a refresh runs.
  let fresh = Date.now(), resting = fresh, failed = false, refused = false, held = false, busy = false;
  const showState = () => {
    if (failed || refused || Date.now() - resting > patience) setState(`stale since ${new Date(fresh).toISOString().slice(0, 19).replace("T", " ")} UTC`);
    else setState(held ? "paused: text is selected" : "live");
  };

  // What the reader has seen is the last change that the page had when it was left. Numbers begin again with each process.
  const changes = document.getElementById("changes");
  const process = `seen since ${document.querySelector("h1 time")?.dateTime}`;
  const lastSeen = () => { try { return localStorage.getItem(process); } catch { return null; } };
  let since = lastSeen();
  const leave = () => { try { if (changes) localStorage.setItem(process, changes.dataset.last); } catch { /* no storage: nothing is marked */ } };
  addEventListener("pagehide", leave);
  const address = () => {
    const query = new URLSearchParams(location.search);
    if (changes && since !== null && !query.has("since")) query.set("seen", since);
    return `${location.pathname}?${query}`.replace(/\?$/, "");
  };

  // A page that takes long to make and to show is loaded less often, so that it takes a hundredth of a core: both sides count. Painting
  // and cleaning up, which cannot be measured here, take as long again and more.
  // A change of state is announced at once all the same, unless another one was within the time that it takes to read that.
  const reading = 4000; // in milliseconds
  const share = 500, rarest = 20000; // rarest in milliseconds
  const serverTime = (response) => [...(response.headers.get("Server-Timing") ?? "").matchAll(/;dur=([0-9.]+)/g)].reduce((sum, m) => sum + Number(m[1]), 0);

  let again = false; // the filter has changed since a refresh began
  const refresh = async () => {
    if (document.hidden) return;
    if (busy) { again = true; return; }
    busy = true;
    again = false;
    let good = false;
    try {
      const began = Date.now();
      const response = await fetch(address());
      if (!response.ok) return;
      const text = await response.text(), arrived = performance.now();
      const next = new DOMParser().parseFromString(text, "text/html");
      const was = focusedLink();
      held = false;
      waiting = new WeakMap();
      for (const old of document.querySelectorAll("[data-live]")) {
        const now = next.getElementById(old.id);
        if (!now) continue;
        if (!selected(old)) update(old, now);
        else if (old.innerHTML !== now.innerHTML) held = true;
      }
      document.title = next.title;
      restoreFocus(was);
      void document.body.offsetHeight; // the layout is a part of what it costs
      resting = began + Math.min(rarest, share * Math.max(serverTime(response), performance.now() - arrived));
      [fresh, good] = [began, true];
    } catch {
      // the next tick tries again, and the page says since when it is stale
    } finally {
      [busy, failed] = [false, !good];
      showState();
      if (again) refresh();
    }
  };

  // The filter works while it is typed, and the address always has it, so that a reload and a link show the same.
  const filter = document.getElementById("filter");
  let typing = 0;
  const apply = () => {
    const query = new URLSearchParams();
    for (const [key, value] of new FormData(filter)) if (value.trim() !== "" && (key !== "sort" || value !== filter.sort.options[0].value)) query.set(key, value.trim());
    history.replaceState(null, "", `${location.pathname}?${query}`.replace(/\?$/, ""));
    refresh();
  };
  filter?.addEventListener("submit", (e) => { e.preventDefault(); clearTimeout(typing); apply(); });
  filter?.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(apply, 80); });

  // A browser opens at most six connections to one server, for all its tabs together. So only a visible page keeps a stream.
  let stream = null;
  const openStream = () => {
    stream = new EventSource("/events");
    stream.addEventListener("open", () => { refused = false; });
    // The changes of a second come before its tick, and are announced together. More of them soon after wait until these could be read.
    let changed = 0, last = null, announced = 0;
    stream.addEventListener("tick", () => {
      if (last && Date.now() - announced >= reading) {
        news.textContent = `${changed > 1 ? changed + " changes, the last one: " : ""}${last.address} is ${last.to}${last.reason ? ": " + last.reason : ""}`;
        [changed, last, announced] = [0, null, Date.now()];
      }
      if (Date.now() >= resting && !busy) refresh();
    });
    stream.addEventListener("change", (e) => { changed++; last = JSON.parse(e.data); });
    // A browser does not retry a stream that was refused because there are too many.
    stream.addEventListener("error", () => {
      if (stream?.readyState !== EventSource.CLOSED) return;
      [stream, refused] = [null, true];
      showState();
      setTimeout(checkVisible, patience);
    });
    stream.addEventListener("lost", (e) => { news.textContent = `${JSON.parse(e.data).lost} more changes are no longer listed`; });
  };
  const checkVisible = () => {
    if (document.hidden) { stream?.close(); stream = null; leave(); }
    else if (!stream) { since = lastSeen(); openStream(); refresh(); }
  };
  document.addEventListener("visibilitychange", checkVisible);
  checkVisible();
  setInterval(showState, 1000); // also if no event arrives
})();
