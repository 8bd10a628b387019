/**
 * PyTorch's normal noise on a CPU: torch.randn(n, generator=torch.Generator().manual_seed(seed)), so that a seed draws
 * the same picture here and in Python.
 *
 * The bits are those of the Mersenne Twister MT19937 (Matsumoto and Nishimura 1998). Pairs of uniform numbers become pairs of
 * normal ones by the Box-Muller transform, in blocks of 16 as PyTorch does it: the first eight numbers of a block are the
 * radii, the other eight the angles.
 */

const N = 624;
const M = 397;

export class Generator {
  /** @param {number} seed 0 ... 2^53; as in PyTorch, the lower 32 bits count */
  constructor(seed) {
    this.state = new Uint32Array(N);
    this.state[0] = seed % 2 ** 32;
    for (let i = 1; i < N; i++) {
      const previous = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(1812433253, previous) + i;
    }
    this.next = N; // the position in `state`; N: all are used
  }

  /** A generator that gives from here on what this one gives. */
  clone() {
    const twin = Object.create(Generator.prototype);
    twin.state = this.state.slice();
    twin.next = this.next;
    return twin;
  }

  /** 32 random bits. */
  random() {
    if (this.next === N) this.twist();
    let y = this.state[this.next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  twist() {
    const s = this.state;
    for (let i = 0; i < N; i++) {
      const y = (s[i] & 0x80000000) | (s[(i + 1) % N] & 0x7fffffff);
      s[i] = s[(i + M) % N] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.next = 0;
  }

  /** A number in [0, 1) with 24 random bits, as many as a float32 holds. */
  uniform() {
    return (this.random() & 0xffffff) / 2 ** 24;
  }

  /** `n` numbers from N(0, 1), n at least 16: below that PyTorch draws in another way. */
  randn(n) {
    if (!(n >= 16)) throw new RangeError(`randn(${n}): only 16 numbers or more are drawn as PyTorch draws them`);
    const x = new Float32Array(n);
    for (let i = 0; i < n; i++) x[i] = this.uniform();
    for (let i = 0; i + 16 <= n; i += 16) boxMuller(x, i);
    if (n % 16) {
      // The last 16 are drawn a second time, those that overlap with the block before them, too
      for (let i = n - 16; i < n; i++) x[i] = this.uniform();
      boxMuller(x, n - 16);
    }
    return x;
  }
}

/** Sixteen uniform numbers from `start` on to normal ones. */
function boxMuller(x, start) {
  for (let j = start; j < start + 8; j++) {
    const radius = Math.sqrt(-2 * Math.log(1 - x[j]));
    const angle = 2 * Math.PI * x[j + 8];
    x[j] = radius * Math.cos(angle);
    x[j + 8] = radius * Math.sin(angle);
  }
}
