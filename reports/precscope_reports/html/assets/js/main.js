// Start: copy buttons and navigation at once, then the charts as their data is unpacked.
function wireCopyButtons() {
  for (const button of document.querySelectorAll(".copy")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button));
  }
}

async function copy(button) {
  const code = button.parentElement.querySelector("code");
  let copied = true;
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    copied = copySelection(code);
  }
  button.textContent = copied ? "Copied" : "Press Ctrl+C";
  document.getElementById("announce").textContent = button.textContent;
  setTimeout(() => { button.textContent = "Copy"; }, 1600);
}

// The clipboard interface is missing or refused on some file:// pages.
function copySelection(element) {
  const range = document.createRange();
  range.selectNodeContents(element);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  return document.execCommand("copy");
}

function wireNavigation() {
  const links = new Map(Array.from(document.querySelectorAll("nav a"), (link) => [link.hash.slice(1), link]));
  const observer = new IntersectionObserver((entries) => {
    const seen = entries.find((entry) => entry.isIntersecting);
    if (!seen) return;
    links.forEach((link) => link.removeAttribute("aria-current"));
    links.get(seen.target.id)?.setAttribute("aria-current", "true");
  }, { rootMargin: "-20% 0px -75% 0px" });
  document.querySelectorAll("section").forEach((section) => observer.observe(section));
}

function wireControls() {
  const form = document.getElementById("controls");
  if (!form) return;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", readControls);
  form.addEventListener("input", showScale);
  fillModules();
  wirePresets(form);
  readControls();
}

const MOST_CHOICES = 60;
let choices = [];

function fillModules() {
  const select = document.getElementById("site-module");
  choices = moduleChoices(state.sites).slice(0, MOST_CHOICES);
  const groups = new Map();
  choices.forEach((choice, index) => {
    if (!groups.has(choice.group)) {
      const group = document.createElement("optgroup");
      group.label = choice.group;
      groups.set(choice.group, select.appendChild(group));
    }
    const text = `${shortened(choice.label, 36).replace(UNPRINTABLE, "\ufffd")} (${count(choice.size)})`;
    groups.get(choice.group).append(new Option(text, String(index)));
  });
}

function wirePresets(form) {
  form.addEventListener("click", (event) => {
    const preset = event.target.closest("[data-scale]");
    if (!preset) return;
    const slider = document.getElementById("scale-slider");
    slider.value = preset.dataset.scale;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
  });
}

function readControls() {
  const value = (id) => document.getElementById(id).value;
  const wanted = {
    kind: document.querySelector('input[name="kind"]:checked').value,
    query: value("site-search").trim(),
    module: choices[value("site-module")] ?? null,
    level: Number(value("site-level")),
    format: report.formats.find((format) => format.name === value("site-format")),
    shift: Number(value("scale-slider")),
  };
  const differing = Object.entries(wanted).filter(([key, item]) => state[key] !== item || !state.shown.length);
  if (differing.some(([key]) => key === "level")) differing.push(["toggled", new Set()]);
  if (differing.length) change(Object.fromEntries(differing));
}

function showScale() {
  const slider = document.getElementById("scale-slider");
  if (!slider) return;
  document.getElementById("scale-output").innerHTML = powerOfTwo(Number(slider.value));
  slider.setAttribute("aria-valuetext", `2 to the power of ${slider.value}`);
  slider.disabled = !(state.kind === "gradients" || state.kind.endsWith("gradient"));
  document.querySelectorAll("[data-scale]").forEach((preset) => {
    preset.disabled = slider.disabled;
    preset.setAttribute("aria-pressed", String(preset.dataset.scale === slider.value));
  });
}

function drawCharts() {
  const charts = [drawCurve, drawTrend, drawRuns, drawSweep, drawRetention, drawRates, drawSums, drawSpeed];
  charts.forEach((draw) => draw());
}

function drawAll() {
  drawMap();
  drawCharts();
  if (dialog.open) openSite(state.sites[openIndex]);
}

// Charts carry their colours in them, so they are drawn anew when the page's change.
function wireTheme() {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  matchMedia("(max-width: 620px)").addEventListener("change", drawAll);
  window.addEventListener("beforeprint", () => {
    root.dataset.print = "";
    document.querySelectorAll("details:not([open])").forEach((element) => {
      element.open = true;
      element.dataset.openedForPrint = "";
    });
    drawAll();
  });
  window.addEventListener("afterprint", () => {
    delete root.dataset.print;
    document.querySelectorAll("[data-opened-for-print]").forEach((element) => {
      element.open = false;
      delete element.dataset.openedForPrint;
    });
    drawAll();
    // A chart keeps the width of the paper until it is told to measure its place again.
    document.querySelectorAll(".chart.js-plotly-plot").forEach((chart) => Plotly.Plots.resize(chart));
  });
}

async function start() {
  wireCopyButtons();
  wireNavigation();
  const [sites] = await Promise.all([loadSites(), loadDetails(), loadPlotly()]);
  state.sites = sites;
  wireTable();
  wireDialog();
  [drawTotals, drawTable, drawMap, showScale].forEach(subscribe);
  wireControls();
  publish();
  root.dataset.state = "ready";
  performance.mark("precscope:first-picture");
  drawCharts();
  wireTheme();
  root.dataset.state = "drawn";
  performance.mark("precscope:drawn");
}

start().catch((error) => {
  recordError(error?.stack ?? error);
  root.dataset.state = "failed";
});
