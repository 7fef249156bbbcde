// What a format keeps of a histogram after a loss scale of 2^shift. The same definitions as
// ExponentHistogram: bin e counts 2^e <= |x| < 2^(e+1), `powers` those that are exactly 2^e.
const MEAN_SIGNIFICAND = 1.5;

function sharesOf(site, format, shift) {
  const flushEdge = format.flush - shift;
  const normalEdge = format.normal - shift;
  const topEdge = format.top + 1 - shift;
  let total = 0, flushed = 0, belowNormal = 0, overflow = 0, mass = 0, lost = 0;
  for (let i = 0; i < site.counts.length; i++) {
    const count = site.counts[i];
    if (!count) continue;
    const exponent = site.first_exponent + i;
    const power = site.powers[i];
    const octave = 2 ** exponent;
    const octaveMass = octave * (power + MEAN_SIGNIFICAND * (count - power));
    total += count;
    mass += octaveMass;
    if (exponent < normalEdge) belowNormal += count;
    if (exponent >= topEdge) overflow += count;
    if (exponent < flushEdge) {
      flushed += count;
      lost += octaveMass;
    } else if (exponent === flushEdge) {
      flushed += power;
      lost += power * octave;
    }
  }
  if (overflow === 0 && total && overflows(site.amax * 2 ** shift, format)) overflow = 1;
  const of = (part) => (total ? part / total : 0);
  return {
    total, flushedCount: flushed, overflowCount: overflow, subnormalCount: belowNormal - flushed,
    mass, lostMass: lost,
    flushed: of(flushed), subnormal: of(belowNormal - flushed), overflow: of(overflow),
    l1: mass ? Math.min(1, lost / mass) : 0,
  };
}

function overflows(magnitude, format) {
  return format.inclusive ? magnitude >= format.overflow : magnitude > format.overflow;
}

const isGradient = (site) => site.kind.endsWith("gradient");
