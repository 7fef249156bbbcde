// A histogram as a small drawing for a table row; sparkline.py draws the same for the static table.
const SPARK = { first: -40, last: 20, height: 20, lowest: -5 };

function silhouette(site, shift) {
  const shares = new Map();
  site.counts.forEach((count, offset) => {
    if (!count) return;
    const exponent = site.first_exponent + offset + shift;
    const bin = Math.min(Math.max(exponent, SPARK.first), SPARK.last);
    shares.set(bin, (shares.get(bin) ?? 0) + count / site.shares.total);
  });
  return Array.from(shares, ([exponent, part]) => {
    const level = 1 - Math.log10(part) / SPARK.lowest;
    const height = Math.max(0.6, Math.round(level * SPARK.height * 10) / 10);
    return `M${exponent - SPARK.first} ${SPARK.height}v-${height}h.9v${height}z`;
  }).join("");
}

function sparkline(site) {
  const width = SPARK.last - SPARK.first + 1;
  return `<svg class="spark" viewBox="0 0 ${width} ${SPARK.height}" preserveAspectRatio="none" ` +
    `aria-hidden="true"><path d="${silhouette(site, shiftOf(site))}" fill="url(#regions)"/></svg>`;
}

// The drawing's colours change where the chosen format's regions do.
function moveRegions(format) {
  const width = SPARK.last - SPARK.first + 1;
  const edges = [format.flush, format.normal, format.top + 1];
  const offsets = edges.map((edge) => Math.min(1, Math.max(0, (edge - SPARK.first) / width)));
  document.querySelectorAll("#regions stop").forEach((stop, index) => {
    stop.setAttribute("offset", offsets[index >> 1]);
  });
}
