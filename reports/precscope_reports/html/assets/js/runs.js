// The loss of every recipe; skipped steps and divergence marked; the loss scale below.
const lastFinite = (values) => values.filter(isNumber).at(-1);

function runTrace(run, index) {
  const finite = run.loss.value.filter(isNumber).length;
  return {
    type: "scatter", mode: finite > 30 ? "lines" : "lines+markers", name: escapeHtml(run.recipe),
    legendgroup: String(index), x: run.loss.step, y: run.loss.value, connectgaps: false,
    line: lineOf(run, index),
    hovertemplate: `${escapeHtml(run.recipe)}, step %{x}: %{y:.4g}<extra></extra>`,
  };
}

// What the losses of one recipe's seeds span: FP32's is the yardstick of parity.
function bandTrace(band, runs) {
  const index = runs.findIndex((run) => run.recipe === band.recipe);
  if (index < 0 || !band.step.length) return null;
  return {
    type: "scatter", mode: "lines", x: [...band.step, ...band.step.slice().reverse()],
    y: [...band.high, ...band.low.slice().reverse()], fill: "toself", hoverinfo: "skip",
    fillcolor: faded(lineOf(runs[index], index).color, 0.16), line: { width: 0 },
    legendgroup: String(index), showlegend: false,
  };
}

function markTrace(run, index, x, y, symbol, size, text) {
  return {
    type: "scatter", mode: "markers", x, y, legendgroup: String(index), showlegend: false,
    cliponaxis: false, hovertemplate: `${escapeHtml(run.recipe)}, step %{x}: ${text}<extra></extra>`,
    marker: { symbol, size, color: lineOf(run, index).color,
      line: { width: 2, color: lineOf(run, index).color } },
  };
}

function eventTraces(run, index, top) {
  const traces = [];
  if (run.skipped_at.length) {
    const y = run.skipped_loss.map((value) => (isNumber(value) ? Math.min(value, top) : top));
    traces.push(markTrace(run, index, run.skipped_at, y, "line-ns-open", 13, "skipped"));
  }
  if (isNumber(run.diverged_at)) {
    const y = Math.min(lastFinite(run.loss.value) ?? top, top);
    traces.push(markTrace(run, index, [run.diverged_at], [y], "x-thin", 13, "diverged"));
  }
  return traces;
}

// A run that climbs far above where it began would flatten all others: the axis ends before it,
// above whatever noise there is. Bands count: they show seeds that have no line of their own.
const MOST_CLIMB = 2.5;

function lossRange(runs, bands) {
  const calm = runs.filter((run) => !isNumber(run.diverged_at));
  const starts = runs.map((run) => run.loss.value.find(isNumber)).filter(isNumber);
  const values = [...(calm.length ? calm : runs).flatMap((run) => run.loss.value),
    ...bands.flatMap((band) => [...band.low, ...band.high]), ...starts].filter(isNumber);
  if (!values.length) return [0, 1];
  const low = values.reduce((a, b) => Math.min(a, b));
  const top = values.reduce((a, b) => Math.max(a, b));
  const begin = starts.length ? starts.reduce((a, b) => Math.max(a, b)) : top;
  const high = Math.min(top, begin + MOST_CLIMB * Math.abs(begin - low || 1));
  const room = 0.06 * (high - low || 1);
  return [low - room, high + room];
}

function drawRuns() {
  const element = document.getElementById("run-losses");
  if (!element) return;
  const { runs } = report;
  const range = lossRange(runs, report.bands);
  const traces = [...report.bands.map((band) => bandTrace(band, runs)).filter(Boolean),
    ...runs.map(runTrace)];
  runs.forEach((run, index) => traces.push(...eventTraces(run, index, range[1])));
  const scaled = runs.map((run, index) => ({ run, index })).filter(({ run }) => run.log2_scale.value.length);
  traces.push(...scaled.map(({ run, index }) => scaleTrace(run, index)));
  const domain = scaled.length ? [0.27, 1] : [0, 1];
  Plotly.react(element, traces, layout({
    height: scaled.length ? 520 : 440, showlegend: true, margin: { l: 10, r: 10, t: 30, b: 48 },
    xaxis: axis({ title: "step", showgrid: false, anchor: scaled.length ? "y2" : "y" }),
    yaxis: axis({ title: "loss", range, domain }),
    ...(scaled.length ? { yaxis2: scaleAxis(scaled) } : {}),
    annotations: divergences(runs, range),
  }), CONFIG);
}

function scaleTrace(run, index) {
  return {
    type: "scatter", mode: "lines", x: run.log2_scale.step, y: run.log2_scale.value, yaxis: "y2",
    legendgroup: String(index), showlegend: false,
    line: { ...lineOf(run, index), width: 1.8, shape: "hv" },
    customdata: run.log2_scale.value.map(powerOfTwo),
    hovertemplate: `${escapeHtml(run.recipe)}, step %{x}: loss scale %{customdata}<extra></extra>`,
  };
}

function scaleAxis(scaled) {
  const values = scaled.flatMap(({ run }) => run.log2_scale.value);
  const low = values.reduce((a, b) => Math.min(a, b)) - 1;
  const high = values.reduce((a, b) => Math.max(a, b)) + 1;
  return axis({ title: "loss scale", domain: [0, 0.2], range: [low, high], ...powerTicks(low, high, 4) });
}

function divergences(runs, range) {
  if (isNarrow()) return [];
  return runs.map((run, index) => ({ run, index })).filter(({ run }) => isNumber(run.diverged_at))
    .map(({ run, index }) => ({
      x: run.diverged_at, y: Math.min(lastFinite(run.loss.value) ?? range[1], range[1]),
      text: `${escapeHtml(run.recipe)} diverged`, showarrow: false, yshift: -16, xanchor: "right",
      xshift: -4, font: { size: 12, color: lineOf(run, index).color },
    }));
}
