// Modules by time, coloured by whether tensor cores ran them, and NVML's readings.
const MOST_MODULES = 30;
const CORE_STYLES = [
  { key: "used", colour: "--line-4" }, { key: "not used", colour: "--flushed" },
  { key: "unknown", colour: "--quiet" },
];

const msOf = (module) => module.total_ms ?? (module.forward_ms ?? 0) + (module.backward_ms ?? 0);

function drawModules(element) {
  const slowest = [...report.modules].sort((a, b) => msOf(b) - msOf(a)).slice(0, MOST_MODULES);
  const stateOf = (module) => CORE_WORDS[module.tensor_cores] ?? "unknown";
  const traces = CORE_STYLES.map(({ key, colour }) => {
    const rows = slowest.map((module, row) => ({ module, row })).filter(({ module }) => stateOf(module) === key);
    return { type: "bar", orientation: "h", name: `tensor cores ${key}`, x: rows.map(({ module }) => msOf(module)),
      y: rows.map(({ row }) => row), width: 0.68, marker: { color: css(colour) },
      customdata: rows.map(({ module }) => escapeHtml(shortened(module.module ?? "", 60))),
      hovertemplate: "%{customdata}: %{x:.3~g} ms<extra></extra>" };
  }).filter((trace) => trace.x.length);
  Plotly.react(element, traces, layout({
    height: slowest.length * 22 + 110, showlegend: true, barmode: "overlay",
    margin: { l: 10, r: 14, t: 34, b: 48 }, xaxis: axis({ title: "time in a step, ms" }),
    yaxis: axis({ range: [slowest.length - 0.4, -0.6], tickvals: slowest.map((_, row) => row), ticks: "",
      ticktext: slowest.map((module) => escapeHtml(shortened(module.module || "(root)", isNarrow() ? 15 : 38))) }),
  }), CONFIG);
}

function drawTraces(element) {
  const { nvml } = report;
  const gap = 0.06, share = (1 - gap * (nvml.length - 1)) / nvml.length;
  const axes = {}, traces = [];
  nvml.forEach((line, at) => {
    const suffix = at ? at + 1 : "";
    const top = 1 - at * (share + gap);
    axes[`yaxis${suffix}`] = axis({ title: line.unit, domain: [Math.max(0, top - share), top], rangemode: "tozero", nticks: 4 });
    traces.push({ type: "scatter", mode: "lines", name: escapeHtml(line.name), x: line.seconds, y: line.values,
      yaxis: `y${suffix}`, line: { width: 1.8, color: css(`--line-${(at % 7) + 2}`) },
      hovertemplate: `${escapeHtml(line.name)}: %{y:.4~g} ${escapeHtml(line.unit)}<extra></extra>` });
  });
  Plotly.react(element, traces, layout({
    height: 110 * nvml.length + 90, showlegend: true, margin: { l: 10, r: 10, t: 34, b: 48 },
    xaxis: axis({ title: "seconds", anchor: nvml.length > 1 ? `y${nvml.length}` : "y", showgrid: false }), ...axes,
  }), CONFIG);
}

function drawSpeed() {
  const modules = document.getElementById("module-times");
  if (modules) drawModules(modules);
  const traces = document.getElementById("nvml-traces");
  if (traces && report.nvml.length) drawTraces(traces);
}
