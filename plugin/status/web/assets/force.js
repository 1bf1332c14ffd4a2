// Makes the form of the page act: it sends what is in the form to /v1/force, and shows what the file of forced states has. The token
// stays in the form, and is forgotten with the page. All that is shown is text: nothing that others wrote becomes markup.
"use strict";
(() => {
  const form = document.getElementById("force-form");
  if (!form) return;
  const result = document.getElementById("force-result");
  const notes = document.getElementById("force-notes");
  const table = document.getElementById("force-lines");
  const path = "/v1/force";
  let tag = null; // the ETag of what the table shows

  const say = (text, failed) => {
    result.textContent = text;
    result.classList.toggle("bad", failed);
  };
  const cell = (row, text) => row.insertCell().append(text);

  // Fills a link or a row into the form.
  const fill = (state, networks) => {
    form.elements.state.value = state;
    form.elements.networks.value = networks;
    form.elements.reason.focus();
  };
  const link = (state, networks) => {
    const a = document.createElement("a");
    [a.href, a.textContent] = ["#force", "Release"];
    [a.dataset.act, a.dataset.network] = [state, networks];
    return a;
  };

  const show = (file, etag) => {
    tag = etag;
    const rows = file.lines.map((line) => {
      const row = document.createElement("tr");
      cell(row, line.line);
      cell(row, line.state + (line.ended ? " (has ended)" : ""));
      cell(row, line.networks.join(" "));
      cell(row, line.until || "no end");
      cell(row, line.reason || "");
      row.cells[2].append(" ", link("release", line.networks.join(" ")));
      return row;
    });
    if (file.more_lines) {
      const row = document.createElement("tr");
      cell(row, `and ${file.more_lines} more ${file.more_lines === 1 ? "line" : "lines"}`);
      row.cells[0].colSpan = 5;
      rows.push(row);
    }
    table.tBodies[0].replaceChildren(...rows);
    table.hidden = rows.length === 0;
    notes.replaceChildren(...(file.notes || []).map((text) => {
      const item = document.createElement("li");
      item.textContent = text;
      return item;
    }));
    if (!file.admin) say("Nothing can be changed here any more: the Corefile has changed.", true);
    else if (!file.writable) say(file.why, true);
  };

  const load = async () => {
    const response = await fetch(path);
    const body = await response.json();
    if (!response.ok) throw new Error(body.error);
    show(body, response.headers.get("ETag"));
  };

  const send = async () => {
    const field = (name) => form.elements[name].value.trim();
    const headers = { "Content-Type": "application/json", "If-Match": tag };
    if (form.elements.token) headers.Authorization = `Bearer ${field("token")}`;
    const change = { state: field("state"), networks: field("networks").split(/[\s,]+/).filter(Boolean), until: field("until"), reason: field("reason") };
    if (change.until === "none") change.until = "";
    if (change.state === "release") change.until = "";
    const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(change) });
    const body = await response.json();
    if (response.status === 412) await load(); // the form stays as it is, and the table shows what others have done
    if (response.status === 401) throw new Error("wrong token: enter what is in the file of token");
    if (!response.ok) throw new Error(body.error);
    show(body, response.headers.get("ETag"));
    say(`Done${body.scope ? ", on " + body.scope : ""}: ${change.state} ${change.networks.join(" ")}`, false);
    form.elements.networks.value = "";
    form.elements.reason.value = "";
  };

  form.hidden = false;
  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    say("Sending…", false);
    try {
      if (tag === null) await load();
      await send();
    } catch (error) {
      say(`Not done: ${error.message}`, true);
    } finally {
      button.disabled = false;
    }
  });
  // Links in rows of the page, which come and go, fill in the form.
  document.addEventListener("click", (e) => {
    const a = e.target.closest("a[data-act]");
    if (!a) return;
    e.preventDefault(); // to go to the form would take the focus off its field again, at some later time
    fill(a.dataset.act, a.dataset.network);
  });
  // The key that follows such a link moves the focus into the form while it is still down. What else it sends there, a press or repeated
  // ones, must not send the form: with a token in its field, that would act before a reason is given.
  let held = false;
  document.addEventListener("keydown", (e) => {
    if (e.key !== "Enter") return;
    if (!e.repeat) held = e.target.matches("a[data-act]");
    else if (held) e.preventDefault();
  }, true);
  document.addEventListener("keypress", (e) => { if (held && e.key === "Enter") e.preventDefault(); }, true);
  document.addEventListener("keyup", () => { held = false; }, true);
  load().catch((error) => say(`The file cannot be shown: ${error.message}`, true));
})();
