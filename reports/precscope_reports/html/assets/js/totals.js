// The answer to "what if": what the chosen format and loss scale lose over the sites shown.
const totalsElement = document.getElementById("totals");

function drawTotals() {
  if (!totalsElement) return;
  const stored = state.shown.filter((site) => site.at_risk);
  const sites = stored.length ? stored : state.shown;
  const sum = (key) => sites.reduce((total, site) => total + site.shares[key], 0);
  const worst = sites.reduce((a, b) => (b.shares.l1 > (a?.shares.l1 ?? -1) ? b : a), null);
  const overflowing = sites.filter((site) => site.shares.overflowCount > 0).length;
  const of = (part, whole) => (whole ? Math.min(1, part / whole) : 0);
  const total = sum("total");
  totalsElement.innerHTML = [
    totalHtml("values flushed to 0", share(of(sum("flushedCount"), total))),
    totalHtml("values subnormal", share(of(sum("subnormalCount"), total))),
    totalHtml("L1 mass lost", share(of(sum("lostMass"), sum("mass")))),
    totalHtml("L1 mass lost by the worst site", worst ? share(worst.shares.l1) : DASH),
    totalHtml("sites that overflow", `${count(overflowing)} of ${count(sites.length)}`, overflowing),
  ].join("");
  document.getElementById("scale-note").textContent = scaleNote(stored.length);
}

const totalHtml = (label, value, bad) =>
  `<span><strong${bad ? ' class="bad"' : ""}>${value}</strong>${label}</span>`;

function scaleNote(stored) {
  const format = state.format.name.toUpperCase();
  const over = stored
    ? `Over the ${count(stored)} sites shown that autocast stores in half precision.`
    : `No site shown is stored in half precision: this is what ${format} would do to all of them.`;
  if (!state.shown.some(isGradient)) return `${over} A loss scale moves gradients only.`;
  return over + windowNote();
}

function windowNote() {
  const { minimum_log2: low, maximum_log2: high } = report.loss_scale;
  if (state.format.name !== "fp16" || !isNumber(low) || !isNumber(high)) return "";
  const inside = state.shift >= low && state.shift <= high;
  return inside ? " This loss scale lies in the safe window." : " This loss scale lies outside the safe window.";
}
