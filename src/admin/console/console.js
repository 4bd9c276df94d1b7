"use strict";
// Keeps the overview's figures and the live log fresh; without it every page still says all, once.
(function () {
  function every(seconds, work) {
    let busy = false;
    setInterval(function () {
      if (busy || document.hidden) return;
      busy = true;
      Promise.resolve(work()).catch(function () {}).then(function () { busy = false; });
    }, seconds * 1000);
  }
  async function json(url) {
    const answer = await fetch(url, { cache: "no-store", headers: { accept: "application/json" } });
    // The session is over: the page that asks for the token comes.
    if (answer.status === 401) location.reload();
    if (!answer.ok) throw new Error(String(answer.status));
    return answer.json();
  }
  // As clocks in China show it, to the minute.
  function beijing(text) {
    return new Date(Date.parse(text) + 8 * 3600e3).toISOString().slice(0, 16).replace("T", " ");
  }
  const cards = document.getElementById("cards");
  if (cards) every(2, async function () {
    const status = await json("/v1/status");
    for (const cell of cards.querySelectorAll("[data-key]")) {
      let value = status[cell.dataset.key];
      if (cell.localName === "time" && value) value = beijing(value);
      cell.textContent = typeof value === "boolean" ? cell.dataset[String(value)] : value === null ? "—" : "grouped" in cell.dataset ? value.toLocaleString("en-US") : String(value);
    }
  });
  const log = document.getElementById("log");
  if (log) {
    const body = log.tBodies[0], most = 300, pause = document.getElementById("pause");
    const words = new Map(Array.from(document.getElementById("verdict").options, function (it) { return [it.value, it.textContent]; }));
    let seen = 0;
    function row(text) {
      const line = JSON.parse(text), tr = document.createElement("tr");
      const request = (line.method || "") + " " + (line.target || "");
      const time = line.time && new Date(Date.parse(line.time) + 8 * 3600e3).toISOString().slice(0, 23).replace("T", " ");
      for (const value of [time, line.client, line.host, request, line.status, words.get(line.verdict) || line.verdict]) {
        const cell = document.createElement("td");
        cell.textContent = value === undefined ? "" : String(value);
        tr.append(cell);
      }
      ["day", "day", "name", "side", "n", "day"].forEach(function (name, nth) { tr.children[nth].className = name; });
      return tr;
    }
    async function more() {
      if (pause.getAttribute("aria-pressed") === "true") return;
      const query = new URLSearchParams({ after: seen, containing: document.getElementById("containing").value, verdict: document.getElementById("verdict").value });
      const found = await json("/v1/log?" + query);
      seen = found.seen;
      for (const line of found.lines) { try { body.prepend(row(line)); } catch (error) { /* not a line of JSON */ } }
      while (body.rows.length > most) body.deleteRow(-1);
    }
    pause.addEventListener("click", function () {
      pause.setAttribute("aria-pressed", String(pause.getAttribute("aria-pressed") !== "true"));
    });
    document.getElementById("filters").addEventListener("input", function () { seen = 0; body.replaceChildren(); });
    document.getElementById("filters").addEventListener("submit", function (event) { event.preventDefault(); });
    more().catch(function () {});
    every(1, more);
  }
})();
