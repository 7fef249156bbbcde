// The page's data: a small JSON block, and packed blocks of base64 of gzip.
const report = JSON.parse(document.getElementById("report-data").textContent);

async function unpack(elementId) {
  const text = document.getElementById(elementId).textContent;
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

async function loadSites() {
  const columns = JSON.parse(await unpack("report-sites"));
  const keys = Object.keys(columns);
  return columns.name.map((_, index) => {
    const site = { index };
    for (const key of keys) site[key] = columns[key][index];
    return site;
  });
}

async function loadDetails() {
  Object.assign(report, JSON.parse(await unpack("report-details")));
}

async function loadPlotly() {
  const script = document.createElement("script");
  script.textContent = await unpack("plotly-bundle");
  document.head.append(script);
  return window.Plotly;
}
