"use strict";
const root = document.documentElement;
root.dataset.errors = "0";
addEventListener("error", () => { root.dataset.errors = String(Number(root.dataset.errors) + 1); });

(() => {
  const chart = document.getElementById("chart");
  const tip = document.getElementById("tip");
  // The script's own hints take the place of the browser's, which are slow and not for keys.
  for (const title of chart.querySelectorAll("rect > title, a > title")) {
    title.parentNode.dataset.tip = title.textContent;
    if (title.parentNode.tagName === "a") title.parentNode.setAttribute("aria-label", title.textContent);
    title.remove();
  }
  const show = (element, x, y) => {
    tip.textContent = element.dataset.tip;
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - width - 8)) + "px";
    tip.style.top = (y + 18 + height > innerHeight ? y - height - 12 : y + 18) + "px";
  };
  const hide = () => { tip.hidden = true; };
  chart.addEventListener("pointermove", (event) => {
    const element = event.target.closest("[data-tip]");
    if (element) show(element, event.clientX, event.clientY); else hide();
  });
  chart.addEventListener("pointerleave", hide);

  // Keys: up and down from lane to lane, left and right along one.
  let lane = -1, place = 0, marked = null;
  const lanes = [...chart.querySelectorAll("g.lane")];
  const stops = (index) => [...lanes[index].querySelectorAll("rect[data-tip]")]
    .sort((a, b) => a.x.baseVal.value - b.x.baseVal.value || a.y.baseVal.value - b.y.baseVal.value);
  const mark = (element) => {
    if (marked) marked.classList.remove("at");
    marked = element;
    if (!element) return hide();
    element.classList.add("at");
    element.scrollIntoView({ block: "nearest", inline: "nearest" });
    const box = element.getBoundingClientRect();
    show(element, box.left, box.bottom - 12);
  };
  chart.addEventListener("keydown", (event) => {
    const moves = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] };
    if (event.key === "Escape") return mark(null);
    if (!moves[event.key] || event.target !== chart || !lanes.length) return;
    event.preventDefault();
    const [down, right] = moves[event.key];
    const at = marked ? marked.x.baseVal.value : 0;
    let next = lane < 0 ? 0 : lane + down;
    while (next >= 0 && next < lanes.length && !stops(next).length) next += down || 1;
    if (next < 0 || next >= lanes.length) return;
    const along = stops(next);
    if (next !== lane) {
      lane = next;
      place = along.findIndex((stop) => stop.x.baseVal.value + stop.width.baseVal.value > at);
      if (place < 0) place = along.length - 1;
    } else {
      place = Math.max(0, Math.min(along.length - 1, place + right));
    }
    mark(along[place]);
  });
  chart.addEventListener("blur", () => mark(null));

  const filter = document.getElementById("filter");
  const find = document.getElementById("find");
  const rows = [...document.querySelectorAll(".lines tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const kinds = [...filter.querySelectorAll("input[name=kind]")];
  const sift = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = new Set(kinds.filter((kind) => kind.checked).map((kind) => kind.value));
    let count = 0;
    rows.forEach((row, index) => {
      const kind = row.dataset.kind;
      const keep = (kind ? wanted.has(kind) : !words.length) && words.every((word) => texts[index].includes(word));
      row.hidden = !keep;
      if (keep) count += 1;
    });
    document.getElementById("count").textContent = count + " of " + rows.length + " lines";
  };
  filter.hidden = false;
  filter.addEventListener("input", sift);
  filter.addEventListener("submit", (event) => event.preventDefault());
  sift();

  const theme = document.getElementById("theme");
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  root.dataset.lanes = String(chart.querySelectorAll("g.node").length);
  // Reading a box forces the layout: what is measured is a page that can be seen.
  chart.getBoundingClientRect();
  root.dataset.readyMs = String(Math.round(performance.now()));
})();
