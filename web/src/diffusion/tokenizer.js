/**
 * CLIP's byte-pair encoding, read from the tokenizer.json that the model was trained with: a prompt to the numbers that the
 * text encoder reads (Sennrich et al. 2016; Radford et al. 2021).
 *
 * 1. clean     composed characters (NFC), spaces for any white space, small letters
 * 2. split     into words, single digits, and runs of punctuation
 * 3. bytes     each of the 256 bytes of UTF-8 is written as one visible character
 * 4. merge     the pair that was learned first becomes one token, until no pair is left to merge
 */

const WORD_END = "</w>";

export class Tokenizer {
  /**
   * @param {object} file what tokenizer.json holds
   * @param {object} characters of model.json: what is a letter, a number, a small letter. The browser's own tables are of another
   *   version of Unicode, in which some characters are not yet, or already, letters.
   */
  constructor(file, characters) {
    const { model } = file;
    if (model?.type !== "BPE" || model.end_of_word_suffix !== WORD_END) {
      throw new TypeError("tokenizer.json is not of CLIP's kind: byte-pair encoding with </w> at the end of a word");
    }
    this.ids = new Map(Object.entries(model.vocab));
    this.tokens = new Map([...this.ids].map(([token, id]) => [id, token]));
    this.ranks = new Map(model.merges.map((pair, rank) => [Array.isArray(pair) ? pair.join(" ") : pair, rank]));
    this.special = new Map(file.added_tokens.map(({ content, id }) => [content, id]));
    for (const [token, id] of this.special) this.tokens.set(id, token);
    [this.start, this.end] = ["<|startoftext|>", "<|endoftext|>"].map((token) => this.special.get(token));
    this.unknown = this.ids.get(model.unk_token) ?? this.special.get(model.unk_token);
    this.isSpecial = new RegExp(`(${[...this.special.keys()].map(literally).join("|")})`, "u");
    const [split] = file.pre_tokenizer.pretokenizers.filter(({ type }) => type === "Split");
    const classes = { "\\p{L}": inBrackets(characters.letters), "\\p{N}": inBrackets(characters.numbers), "\\s": "\\p{White_Space}" };
    const own = (pattern) => new RegExp(pattern.replace(/\\p\{[LN]\}|\\s/g, (name) => classes[name]), "gu");
    this.words = own(split.pattern.Regex);
    this.pieces = own(BYTE_LEVEL);
    this.small = new Map(Object.entries(characters.small));
    this.bytes = byteCharacters();
  }

  /** The tokens of a prompt, without start, end and padding: an array of integers. */
  tokenize(text) {
    return text.split(this.isSpecial).flatMap((part) => (this.special.has(part) ? [this.special.get(part)] : this.ordinary(part)));
  }

  ordinary(text) {
    const ids = [];
    for (const [word] of this.clean(text).matchAll(this.words)) {
      for (const piece of word.match(this.pieces) ?? []) {
        const characters = Array.from(new TextEncoder().encode(piece), (byte) => this.bytes[byte]);
        for (const token of this.merge(characters)) ids.push(this.ids.get(token) ?? this.unknown);
      }
    }
    return ids;
  }

  /** Letter by letter: JavaScript's lower case of a whole text would write a Greek sigma at the end of a word differently. */
  clean(text) {
    return Array.from(text.normalize("NFC"), (character) => this.small.get(character) ?? character).join("");
  }

  /** The characters of one word, put together pair by pair in the order in which the pairs were learned. */
  merge(characters) {
    let symbols = [...characters.slice(0, -1), characters.at(-1) + WORD_END];
    for (;;) {
      let best = Infinity;
      let where = -1;
      for (let i = 0; i + 1 < symbols.length; i++) {
        const rank = this.ranks.get(`${symbols[i]} ${symbols[i + 1]}`) ?? Infinity;
        if (rank < best) [best, where] = [rank, i];
      }
      if (where < 0) return symbols;
      symbols = [...symbols.slice(0, where), symbols[where] + symbols[where + 1], ...symbols.slice(where + 2)];
    }
  }

  /**
   * What the text encoder reads: start token, at most length - 2 tokens of the prompt, end tokens up to `length`.
   * `cut` is how many tokens did not fit.
   */
  encode(text, length) {
    const tokens = this.tokenize(text);
    const kept = tokens.slice(0, length - 2);
    const padding = new Array(length - 1 - kept.length).fill(this.end);
    return { ids: Int32Array.from([this.start, ...kept, ...padding]), used: kept.length, cut: tokens.length - kept.length };
  }

  /** The words of an encoded prompt, and at which of its positions each is: [{ text, positions }]. */
  wordsOf({ ids, used }) {
    const words = [];
    let pieces = "";
    let positions = [];
    for (let position = 1; position <= used; position++) {
      const token = this.tokens.get(ids[position]);
      pieces += token.endsWith(WORD_END) ? token.slice(0, -WORD_END.length) : token;
      positions.push(position);
      if (token.endsWith(WORD_END) || position === used) {
        words.push({ text: this.readable(pieces), positions });
        [pieces, positions] = ["", []];
      }
    }
    return words;
  }

  /** Byte characters back to text. */
  readable(characters) {
    const byte = new Map(this.bytes.map((character, i) => [character, i]));
    const values = Array.from(characters, (character) => byte.get(character));
    return values.includes(undefined) ? characters : new TextDecoder().decode(Uint8Array.from(values));
  }
}

/** GPT-2's split, which the byte-level step applies once more to each word; of CLIP's words it cuts only a few. */
const BYTE_LEVEL = "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]+|[^\\s\\p{L}\\p{N}]+";

/** Ranges such as "41-5a,61-7a,aa" as the inside of a class of a regular expression. */
const inBrackets = (ranges) => ranges.replace(/[0-9a-f]+/g, (code) => `\\u{${code}}`).replaceAll(",", "");

function literally(text) {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}

/** GPT-2's table: a visible character for each of the 256 bytes; those that are visible stand for themselves. */
function byteCharacters() {
  const visible = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte < 256 && byte !== 173);
  let others = 0;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(visible(byte) ? byte : 256 + others++));
}
