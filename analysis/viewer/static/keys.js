// Keyboard shortcuts. Pages work without this file.
"use strict";
(() => {
  const rows = () => [...document.querySelectorAll("[data-row]")];
  const focusable = (row) => row.querySelector("th a") || row;
  const move = (step) => {
    const all = rows();
    const at = all.findIndex((row) => row.contains(document.activeElement));
    const to = all[Math.min(Math.max(at + step, 0), all.length - 1)];
    if (to) {
      focusable(to).focus({ preventScroll: true });
      to.scrollIntoView({ block: "nearest" });
    }
  };
  const follow = (rel) => document.querySelector(`a[rel="${rel}"]`)?.click();
  const toggleCalls = () => {
    const all = [...document.querySelectorAll("details.calls")];
    const open = all.some((one) => !one.open);
    for (const one of all) one.open = open;
  };
  const openFilters = () => {
    const filters = document.getElementById("filters");
    if (filters) {
      filters.open = true;
      filters.querySelector("select, input").focus();
    }
  };
  const keys = {
    j: () => move(1),
    k: () => move(-1),
    n: () => follow("next"),
    p: () => follow("prev"),
    u: () => follow("up"),
    c: toggleCalls,
    "/": openFilters,
    o: () => location.assign("/"),
    e: () => location.assign("/episodes"),
    "?": () => document.querySelector("details.keys").toggleAttribute("open"),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select")) return;
    const act = Object.hasOwn(keys, event.key) ? keys[event.key] : undefined;
    if (act) {
      event.preventDefault();
      act();
    }
  });
})();
