"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const name = document.body.dataset.export;
  const items = [...document.querySelectorAll(".item")];
  const fieldsets = (item) => [...item.querySelectorAll("fieldset")];
  const answer = (fieldset) => fieldset.querySelector("input:checked")?.value ?? "";
  const open = (item) => fieldsets(item).find((fieldset) => !answer(fieldset));
  const questions = [...new Set(items.flatMap((i) => fieldsets(i).map((f) => f.dataset.question)))];
  let at = 0;
  let unsaved = false;
  let moved = false;

  const say = (text) => { byId("status").textContent = text; };
  const many = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

  function count() {
    const done = items.filter((item) => !open(item)).length;
    byId("done").textContent = `${done} of ${items.length} done`;
  }

  function mark(fieldset) {
    for (const other of document.querySelectorAll("fieldset.current")) other.classList.remove("current");
    fieldset?.classList.add("current");
  }

  function current() {
    return items[at].querySelector("fieldset.current") ?? open(items[at]);
  }

  const part = (item) => Number(item.dataset.part);

  // What an earlier part asks must be answered before a later one shows more, and stays as it is.
  function close(number) {
    for (const item of items) {
      if (part(item) < number) for (const fieldset of fieldsets(item)) fieldset.disabled = true;
    }
  }

  function show(index) {
    if (index < 0 || index >= items.length) return;
    if (items.some((item) => part(item) < part(items[index]) && open(item))) {
      say("The next part opens when every question of this one is answered. Press o for the first open one.");
      return;
    }
    close(part(items[index]));
    say("");
    if (index !== at && !moved) {
      moved = true;
      byId("instructions").open = false;
    }
    items[at].hidden = true;
    at = index;
    items[at].hidden = false;
    byId("place").textContent = `${at + 1} / ${items.length}`;
    byId("previous").disabled = at === 0;
    byId("next").disabled = at === items.length - 1;
    mark(open(items[at]));
    for (const context of items[at].querySelectorAll(".context")) context.scrollTop = context.scrollHeight;
    window.scrollTo(0, 0);
  }

  function showOpen() {
    const index = items.findIndex(open);
    if (index < 0) say("Every question is answered. Save the file.");
    else show(index);
  }

  function choose(key) {
    const fieldset = current();
    if (fieldset?.disabled) return false;
    const input = fieldset && [...fieldset.querySelectorAll("input")].find((i) => i.dataset.key === key);
    if (!input) return false;
    input.checked = true;
    changed();
    const all = fieldsets(items[at]);
    const next = all[all.indexOf(fieldset) + 1];
    mark(next);
    (next ?? fieldset).focus({ preventScroll: true });
    (next ?? fieldset).scrollIntoView({ block: "nearest" });
    if (!next && !open(items[at])) say("This item is done. Press n for the next one.");
    return true;
  }

  function changed() {
    unsaved = true;
    say("");
    count();
  }

  function save() {
    const lines = [["export", "item", ...questions].join(",")];
    for (const item of items) {
      const given = new Map(fieldsets(item).map((f) => [f.dataset.question, answer(f)]));
      if ([...given.values()].some(Boolean)) {
        const cells = questions.map((question) => given.get(question) ?? "-");
        lines.push([name, item.dataset.item, ...cells].join(","));
      }
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\r\n") + "\r\n"], { type: "text/csv" }));
    link.download = `labels-${name}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    unsaved = false;
    say(`Saved ${many(lines.length - 1, "item")} as ${link.download}. Check that the file is there.`);
  }

  function load(text) {
    const [head, ...rows] = text.replace(/^\ufeff/, "").split(/\r?\n/).filter(Boolean).map((line) => line.split(","));
    if (!head || head[0] !== "export" || head[1] !== "item" || rows.some((row) => row[0] !== name)) {
      say("This file was not saved by this page. Nothing was changed.");
      return;
    }
    let found = 0;
    for (const row of rows) {
      const item = items.find((one) => one.dataset.item === row[1]);
      for (const fieldset of item ? fieldsets(item) : []) {
        const value = row[head.indexOf(fieldset.dataset.question)];
        const input = [...fieldset.querySelectorAll("input")].find((i) => i.value === value);
        if (input) { input.checked = true; found += 1; }
      }
    }
    close(Math.max(0, ...items.filter((item) => fieldsets(item).some(answer)).map(part)));
    count();
    showOpen();
    say(`Loaded ${many(found, "answer")}.`);
  }

  document.addEventListener("change", async (event) => {
    if (event.target.type === "radio") {
      changed();
      mark(event.target.closest("fieldset"));
    } else if (event.target.id === "load" && event.target.files.length) {
      load(await event.target.files[0].text());
      event.target.value = "";
    }
  });
  document.addEventListener("focusin", (event) => {
    const fieldset = event.target.closest("fieldset");
    if (fieldset) mark(fieldset);
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    const steps = { n: () => show(at + 1), p: () => show(at - 1), o: showOpen, s: save };
    if (choose(key)) event.preventDefault();
    else if (Object.hasOwn(steps, key)) { event.preventDefault(); steps[key](); }
  });
  byId("previous").addEventListener("click", () => show(at - 1));
  byId("next").addEventListener("click", () => show(at + 1));
  byId("open").addEventListener("click", showOpen);
  byId("save").addEventListener("click", save);
  window.addEventListener("beforeunload", (event) => {
    if (unsaved) event.preventDefault();
  });
  count();
  show(0);
})();
