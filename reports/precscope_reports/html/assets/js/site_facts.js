// What else is known about a site: findings, sums, updates and time of the same module.
const MOST_LINES = 8;
const WEIGHTS = ["weight", "weight_gradient"];

// A parameter's site carries the parameter's name, its module is what stands before the last dot.
const moduleOf = (site) => (WEIGHTS.includes(site.kind)
  ? site.name.split(".").slice(0, -1).join(".") || "(root)" : site.name);

const fact = (term, value) => `<div><dt>${term}</dt><dd>${value}</dd></div>`;
const block = (title, inside) => (inside ? `<h3 class="sub">${title}</h3>${inside}` : "");

function findingsOf(site) {
  const module = moduleOf(site);
  const own = report.findings.filter((finding) => finding.site === site.name
    || finding.site.startsWith(`${module} · `)
    || finding.site === `${site.name} (${KIND_WORDS[site.kind]})`);
  return own.slice(0, MOST_LINES).map((finding) =>
    `<p class="short ${escapeHtml(finding.severity)}"><strong>${escapeHtml(finding.severity)}</strong> ` +
    `${raised(finding.message)}${finding.remedy ? ` <span class="quiet">→ ${raised(finding.remedy)}</span>` : ""}</p>`).join("");
}

// Powers of two as they are written in sentences, raised after escaping.
const raised = (text) => escapeHtml(text).replace(/\b2\^(-?\d+(?:\.\d+)?)/g,
  (_, exponent) => superscript(exponent));

function smallTable(headers, rows) {
  if (!rows.length) return "";
  const heads = headers.map((title, at) => `<th scope="col"${at ? ' class="num"' : ""}>${title}</th>`);
  const body = rows.slice(0, MOST_LINES).map(([first, ...rest]) => `<tr><th scope="row">${first}</th>` +
    `${rest.map((cell) => `<td class="num">${cell}</td>`).join("")}</tr>`);
  return `<div class="scroll" tabindex="0" role="region" aria-label="${headers[0]}"><table><thead><tr>` +
    `${heads.join("")}</tr></thead><tbody>${body.join("")}</tbody></table></div>`;
}

const SUM_WORDS = { fp32_required: "FP32 required", fp32_advised: "FP32 advised", fp16_ok: "FP16 is enough" };
const relative = (value) => (isNumber(value) ? value.toPrecision(2) : DASH);

function sumsOf(site) {
  const module = moduleOf(site);
  const rows = report.sums.filter((sum) => sum.site === module).map((sum) => [
    escapeHtml(sum.operation), count(sum.length), relative(sum.error_fp16), relative(sum.error_fp32),
    escapeHtml(SUM_WORDS[sum.verdict] ?? sum.verdict)]);
  return smallTable(["Sum", "Terms", "Error in FP16", "Error in FP32", "Accumulator"], rows);
}

const KEPT_WORDS = { required: "required", advised: "advised", not_needed: "not needed", stays_fp32: "stays FP32" };

function updatesOf(site) {
  const module = moduleOf(site);
  const isOwn = WEIGHTS.includes(site.kind) ? (name) => name === site.name
    : (name) => name.split(".").slice(0, -1).join(".") === module;
  const rows = report.parameters.filter((parameter) => isOwn(parameter.name)).map((parameter) => [
    nameHtml(parameter.name), share(parameter.retention), share(parameter.retention_0_1),
    share(parameter.retention_0_01), escapeHtml(KEPT_WORDS[parameter.verdict] ?? parameter.verdict)]);
  return smallTable(["Update of", "Kept", "at 0.1 ×", "at 0.01 ×", "Master weights"], rows);
}

const CORE_WORDS = { yes: "used", no: "not used", unknown: "unknown", true: "used", false: "not used" };

function timeOf(site) {
  const found = report.modules.find((timed) => timed.module === moduleOf(site));
  if (!found) return "";
  const ms = (value) => (isNumber(value) ? `${value.toPrecision(3)} ms` : DASH);
  return `<dl class="facts">${fact("Forward", ms(found.forward_ms))}${fact("Backward", ms(found.backward_ms))}` +
    `${fact("Of the step", share(found.share))}` +
    `${fact("Tensor cores", escapeHtml(CORE_WORDS[found.tensor_cores] ?? found.tensor_cores ?? DASH))}</dl>`;
}

const elsewhere = (site) => block("Findings here", findingsOf(site)) +
  block("Updates in FP16 weights", updatesOf(site)) + block("Sums of this module", sumsOf(site)) +
  block("Time", timeOf(site));
