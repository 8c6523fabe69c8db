// The table of candidates (filters, search, order), tabs, and buttons that copy. Runs after the page's own script.
"use strict";
(async () => {
  const most = 300; // rows drawn at once; filters reach all of them
  const tbody = document.querySelector("#rows tbody");
  if (tbody) {
    const { filters, rows } = JSON.parse(await unpacked("candidates"));
    const find = document.getElementById("find");
    const holds = document.getElementById("holds");
    const shown = document.getElementById("shown");
    const selects = [...document.querySelectorAll("[data-filter]")];
    const heads = [...document.querySelectorAll("#rows [data-sort]")];
    const state = { sort: -1, down: false };
    const number = (value) => value.toLocaleString("en-US", { maximumSignificantDigits: 4 });
    rows.forEach((row) => { row.text = [...row.cells, ...row.keys, row.id].join(" ").toLowerCase(); });
    selects.forEach((select, i) => {
      const counts = new Map();
      rows.forEach((row) => counts.set(row.keys[i], (counts.get(row.keys[i]) || 0) + 1));
      for (const [name, count] of counts) select.add(new Option(`${name} (${count})`, name));
      select.closest("label").hidden = counts.size < 2;
    });
    const order = (a, b) => {
      const [x, y] = [a.cells[state.sort], b.cells[state.sort]];
      if (x === null || y === null) return (x === null) - (y === null); // what has no figure comes last, either way
      return (typeof x === "number" ? x - y : x.localeCompare(y)) * (state.down ? -1 : 1);
    };
    const draw = () => {
      const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
      let left = rows.filter((row) => (!holds.checked || row.holds)
        && selects.every((select, i) => !select.value || row.keys[i] === select.value)
        && words.every((word) => row.text.includes(word)));
      if (state.sort >= 0) left = [...left].sort(order);
      tbody.replaceChildren(...left.slice(0, most).map((row) => {
        const tr = document.createElement("tr");
        tr.className = `${row.best ? "best " : ""}${row.holds ? "" : "fails"}`.trim();
        tr.title = row.id;
        row.cells.forEach((cell, i) => {
          const td = tr.insertCell();
          td.textContent = cell === null ? "-" : typeof cell === "number" ? number(cell) : cell;
          if (heads[i].parentElement.classList.contains("n")) td.className = "n";
        });
        return tr;
      }));
      const cut = left.length > most ? `; the first ${most} are shown` : "";
      shown.textContent = `${left.length.toLocaleString("en-US")} of ${rows.length.toLocaleString("en-US")} candidates${cut}`;
    };
    heads.forEach((head) => head.addEventListener("click", () => {
      const column = +head.dataset.sort;
      state.down = state.sort === column ? !state.down : false;
      state.sort = column;
      heads.forEach((each) => each.parentElement.setAttribute("aria-sort",
        each !== head ? "none" : state.down ? "descending" : "ascending"));
      draw();
    }));
    [find, holds, ...selects].forEach((each) => each.addEventListener("input", draw));
    draw();
  }
  for (const tabs of document.querySelectorAll(".tabs")) {
    const buttons = [...tabs.querySelectorAll(":scope > .buttons button")];
    const panes = [...tabs.querySelectorAll(":scope > .tab")];
    buttons.forEach((button, index) => button.addEventListener("click", () => {
      buttons.forEach((each, i) => each.setAttribute("aria-pressed", String(i === index)));
      panes.forEach((pane, i) => { pane.hidden = i !== index; });
    }));
  }
  for (const button of document.querySelectorAll("button.copy")) {
    button.addEventListener("click", async () => {
      const block = button.parentElement.querySelector("pre");
      try {
        await navigator.clipboard.writeText(block.textContent);
      } catch { // pages from disk may be refused the clipboard: select, and let the browser's own command copy
        const range = document.createRange();
        range.selectNodeContents(block);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        document.execCommand("copy");
      }
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
  }
  document.documentElement.dataset.planned = "yes";
})();
