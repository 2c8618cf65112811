
"use strict";
/* Checks every record of this page with the browser's own cryptography, and shows what was checked.

   A record is proven if its bytes, hashed along its inclusion proof (RFC 6962, section 2.1), give the root that a checkpoint states, and
   an Ed25519 key signed that checkpoint (C2SP signed-note). Nothing is asked of a network: the policy above forbids it. What is shown
   is taken from the bytes that were checked. Without Ed25519 in the browser nothing is ever called proven. */
(() => {
  const AT_ONCE = 256;  /* records whose hashes are computed side by side */
  const utf8 = new TextEncoder();
  const one = (id) => document.getElementById(id);

  class Broken extends Error {}

  const bytesOf = (text) => {
    let raw;
    try { raw = atob(text); } catch { throw new Broken("something is not base64"); }
    if (btoa(raw) !== text) throw new Broken("something is not canonical base64");
    return Uint8Array.from(raw, (c) => c.charCodeAt(0));
  };
  const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  const joined = (...parts) => {
    const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) { whole.set(part, at); at += part.length; }
    return whole;
  };
  const same = (a, b) => a.length === b.length && a.every((byte, at) => byte === b[at]);
  const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const leafHash = (leaf) => sha256(joined([0], leaf));
  const nodeHash = (left, right) => sha256(joined([1], left, right));

  const decimal = (text) => {
    if (!/^(0|[1-9][0-9]{0,15})$/.test(text) || !Number.isSafeInteger(Number(text))) throw new Broken("the checkpoint states no tree size");
    return Number(text);
  };

  /* RFC 9162, section 2.1.3.2. Numbers stay below 2^53, so halves are taken by division: shifts would cut them to 32 bits. */
  const rootFrom = async (index, size, hash, proof) => {
    if (!Number.isSafeInteger(index) || index < 0 || index >= size) throw new Broken(`the tree of ${size} leaves has no leaf ${index}`);
    let node = index, last = size - 1, root = hash;
    for (const beside of proof) {
      if (beside.length !== 32) throw new Broken("a hash of the proof has not 32 bytes");
      if (last === 0) throw new Broken("the proof has a hash too many");
      if (node % 2 === 1 || node === last) {
        root = await nodeHash(beside, root);
        while (node !== 0 && node % 2 === 0) { node /= 2; last = Math.floor(last / 2); }
      } else {
        root = await nodeHash(root, beside);
      }
      node = Math.floor(node / 2);
      last = Math.floor(last / 2);
    }
    if (last !== 0) throw new Broken("the proof has a hash too few");
    return root;
  };

  const parseNote = (text) => {
    const cut = text.lastIndexOf("\n\n");
    const lines = cut < 0 ? [] : text.slice(cut + 2).split("\n");
    if (lines.length < 2 || lines.pop() !== "") throw new Broken("the checkpoint is not a signed note");
    const signed = text.slice(0, cut + 1);
    const [origin, size, root, ...rest] = signed.split("\n");
    if (rest.length !== 1 || rest[0] !== "") throw new Broken("the checkpoint is not exactly origin, size and root");
    const signatures = lines.map((line) => {
      const found = /^\u2014 ([^ ]+) ([A-Za-z0-9+/]+={0,2})$/.exec(line);
      if (!found) throw new Broken("the checkpoint has a line that is no signature");
      const raw = bytesOf(found[2]);
      return { name: found[1], id: hex(raw.slice(0, 4)), signature: raw.slice(4) };
    });
    return { signed: utf8.encode(signed), origin, size: decimal(size), root: bytesOf(root), signatures };
  };

  const parseKey = async (text) => {
    const found = /^([^+\s]+)\+([0-9a-f]{8})\+(.+)$/.exec(text);
    if (!found) throw new Broken(`not a verifier key: ${text}`);
    const raw = bytesOf(found[3]);
    if (raw.length !== 33 || raw[0] !== 1) throw new Broken(`not an Ed25519 key: ${text}`);
    const id = hex((await sha256(joined(utf8.encode(found[1] + "\n"), raw))).slice(0, 4));
    if (id !== found[2]) throw new Broken(`the key's id is not ${found[2]} but ${id}: ${text}`);
    return { text, name: found[1], id, raw: raw.slice(1), fingerprint: hex(await sha256(raw.slice(1))).replace(/(....)(?=.)/g, "$1 ") };
  };

  const signs = async (key, note) => {
    const claims = note.signatures.filter((s) => s.name === key.name && s.id === key.id);
    for (const claim of claims) {
      const imported = await crypto.subtle.importKey("raw", key.raw, { name: "Ed25519" }, false, ["verify"]);
      if (!(await crypto.subtle.verify({ name: "Ed25519" }, imported, claim.signature, note.signed))) {
        throw new Broken(`the signature of ${key.name} (key id ${key.id}) does not verify`);
      }
    }
    return claims.length > 0;
  };

  /* The first example of RFC 8032, section 7.1, and the same with one other bit: a browser has to tell them apart. */
  const knowsEd25519 = async () => {
    const of = (digits) => Uint8Array.from(digits.match(/../g), (two) => parseInt(two, 16));
    const key = of("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    const good = of("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b");
    const bad = good.slice();
    bad[0] ^= 1;
    try {
      const imported = await crypto.subtle.importKey("raw", key, { name: "Ed25519" }, false, ["verify"]);
      const none = new Uint8Array();
      return (await crypto.subtle.verify({ name: "Ed25519" }, imported, good, none)) === true &&
        (await crypto.subtle.verify({ name: "Ed25519" }, imported, bad, none)) === false;
    } catch {
      return false;
    }
  };

  const partMatches = (pattern, part) => {
    const expression = pattern.replace(/\[(!?)([^\]/]+)\]|[\s\S]/g, (all, not, inner) => {
      if (inner !== undefined) return `[${not ? "^" : ""}${inner.replace(/[\\\]^[]/g, "\\$&")}]`;
      if (all === "*") return "[^/]*";
      if (all === "?") return "[^/]";
      return all.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
    });
    try {
      return new RegExp(`^(?:${expression})$`, "u").test(part);
    } catch {
      return false;  /* a set such as [z-a], which nothing is in */
    }
  };
  const matches = (pattern, origin) => {
    const patterns = pattern.split("/"), parts = origin.split("/");
    return patterns.length === parts.length && parts.every((part, at) => partMatches(patterns[at], part));
  };

  const parseTrust = async (text) => {
    const bindings = [];
    for (const [number, line] of text.split("\n").entries()) {
      const words = line.trim().split(/\s+/).filter((word) => word !== "");
      const comment = words.findIndex((word) => word.startsWith("#"));
      const said = comment < 0 ? words : words.slice(0, comment);
      if (said.length === 0) continue;
      if (said.length !== 2 || said[0].split("/").length !== 4) throw new Broken(`line ${number + 1} is not an origin pattern and a key`);
      bindings.push({ pattern: said[0], key: await parseKey(said[1]) });
    }
    return bindings;
  };

  const checkOpening = async (trail, trusted) => {
    const [line, ...rest] = trail.opening.split("\n\n");
    const manifest = JSON.parse(line);
    const note = parseNote(rest.slice(1).join("\n\n"));
    if (manifest.kind !== "manifest" || manifest.batch !== 0) throw new Broken("the opening seal opens no trail");
    if (note.origin !== trail.origin) throw new Broken(`the opening seal is one of ${note.origin}`);
    if (note.size !== 1 || !same(await leafHash(utf8.encode(line)), note.root)) throw new Broken("the opening seal's manifest is not in its tree");
    const key = await parseKey(manifest.key);
    if (!(await signs(key, note))) throw new Broken("the opening seal is not signed by the key it names");
    let voucher = null;
    for (const other of trusted) if (voucher === null && (await signs(other, note))) voucher = other;
    return { key, voucher };
  };

  /* Says who signed a trail's checkpoint: a key of the auditor's own lines, or, where there are none, the key that came along. */
  const checkTrail = async (trail, bindings, ed25519) => {
    const note = parseNote(trail.note);
    if (note.origin !== trail.origin) throw new Broken(`the checkpoint is one of ${note.origin}`);
    if (!ed25519) return { note, key: await parseKey(trail.key), signed: false, voucher: null };
    const trusted = bindings.filter((binding) => matches(binding.pattern, trail.origin)).map((binding) => binding.key);
    for (const key of trusted) if (await signs(key, note)) return { note, key, signed: true, voucher: key };
    const { key, voucher } = await checkOpening(trail, trusted);
    if (key.text !== trail.key) throw new Broken("the key beside the trail is not the one of its opening seal");
    if (!(await signs(key, note))) throw new Broken(`the checkpoint is not signed by ${key.name} (key id ${key.id})`);
    if (bindings.length > 0 && voucher === null) throw new Broken("none of your keys signed this trail");
    return { note, key, signed: true, voucher };
  };

  const checkRecord = async (record, trail) => {
    const leaf = JSON.parse(record.leaf);
    if (leaf.seq !== record.seq) throw new Broken(`the record calls itself seq ${leaf.seq}; it is proven at ${record.seq}`);
    const hash = await leafHash(utf8.encode(record.leaf));
    const root = await rootFrom(record.seq, trail.note.size, hash, record.proof.map(bytesOf));
    if (!same(root, trail.note.root)) throw new Broken("the record's bytes and its proof do not lead to the signed root");
    return hash;
  };

  /* What is not to be seen, or turns the text around, is shown as its code. */
  const shown = (value) => (typeof value === "string" ? value : value === undefined || value === null ? "" : JSON.stringify(value))
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\p{Cn}]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
  const element = (tag, text, name) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  };
  const MARKS = { proven: "\u2713 proven", broken: "\u2717 not proven", open: "? not checked" };
  const marked = (cell, state, reason) => {
    cell.replaceChildren(element("span", MARKS[state], `mark ${state}`));
    if (reason) cell.append(element("span", reason, `reason ${state}`));
  };
  const why = (error) => (error instanceof Broken ? error.message : `cannot be read: ${error.message}`);

  const pair = (list, name, value, code) => list.append(element("dt", name), element("dd", value, code ? "code" : ""));
  const detailOf = (record, trail, result) => {
    const leaf = result.leaf ?? {}, event = leaf.event ?? {};
    const list = element("dl");
    pair(list, "Checked", result.reason ? `${MARKS[result.state]}: ${result.reason}` : MARKS[result.state]);
    pair(list, "Trail", shown(trail.origin), true);
    pair(list, "Seq", shown(record.seq));
    pair(list, "Event id", shown(event.event_id), true);
    pair(list, "Session", shown(event.actor?.session), true);
    pair(list, "Observed", shown(leaf.observed_at));
    pair(list, "Source", shown(leaf.source), true);
    for (const [name, value] of Object.entries(event.context ?? {})) pair(list, `Context: ${shown(name)}`, shown(value), true);
    pair(list, "Leaf hash", result.hash ? hex(result.hash) : "not computed", true);
    pair(list, "Proof", `${record.proof.length} hashes`);
    const cell = element("td");
    cell.colSpan = 9;
    cell.append(list, element("p", "The exact bytes that are checked:", "quiet"), element("pre", shown(record.leaf)));
    const row = element("tr", undefined, "detail");
    row.append(cell);
    return row;
  };

  const rowOf = (record, trail, result, at) => {
    const leaf = result.leaf ?? {}, event = leaf.event ?? {};
    const row = element("tr");
    const mark = element("td");
    marked(mark, result.state, result.reason);
    row.append(mark);
    const cells = [event.occurred_at, event.actor?.id, event.action, event.target?.id, event.outcome];
    for (const value of cells) row.append(element("td", shown(value)));
    if (event.actor?.type) row.children[2].append(element("span", ` ${shown(event.actor.type)}`, "quiet"));
    if (event.target?.type) row.children[4].append(element("span", ` ${shown(event.target.type)}`, "quiet"));
    row.append(element("td", shown(trail.origin.split("/").slice(0, 2).join("/"))), element("td", shown(record.seq)));
    const button = element("button", "Details");
    button.type = "button";
    button.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-label", `Details of record ${at + 1}`);
    button.addEventListener("click", () => {
      const open = row.nextElementSibling?.className === "detail";
      if (open) row.nextElementSibling.remove(); else row.after(detailOf(record, trail, result));
      button.setAttribute("aria-expanded", String(!open));
    });
    const last = element("td");
    last.append(button);
    row.append(last);
    return row;
  };

  const showTrails = (data, trails) => {
    one("trails").tBodies[0].replaceChildren(...data.trails.map((trail, at) => {
      const row = element("tr"), cell = element("td"), result = trails[at];
      marked(cell, result.state, result.reason);
      const key = element("td");
      key.append(element("span", result.key ? result.key.fingerprint : "unknown", "code"));
      if (result.voucher) key.append(element("span", `vouched for by your line for ${shown(result.voucher.name)}: ${result.voucher.fingerprint}`, "reason"));
      else if (result.state === "proven") key.append(element("span", "the key that came with the pack: compare it", "reason open"));
      row.append(cell, element("td", shown(trail.origin)), element("td", result.note ? result.note.size.toLocaleString("en") : ""), key);
      return row;
    }));
  };

  const say = (results, total, ed25519, own) => {
    const count = (state) => results.filter((result) => result.state === state).length;
    const [proven, broken, open] = ["proven", "broken", "open"].map(count);
    const verdict = one("verdict"), meaning = one("meaning");
    verdict.className = broken ? "broken" : open || proven === 0 ? "open" : "proven";
    verdict.textContent = broken ? `${broken} of ${results.length} records are NOT proven; ${proven} are.`
      : open ? `0 of ${results.length} records are proven: the signatures were not checked.`
      : `${proven} of ${results.length} records are proven, under the keys below.`;
    if (total > results.length) verdict.textContent += ` ${total - results.length} more are in the pack, but not on this page.`;
    if (open && !broken && ed25519 === false) {
      meaning.textContent = "This browser does not know Ed25519, so signature not checked: that the records are in the tree was recomputed, but not who signed " +
        "it. Use a newer browser, or trailseal verify-pack.";
    } else if (own) {
      meaning.textContent = "Checked with the keys of your own trust lines.";
    } else {
      meaning.textContent = "Checked with the keys that came with the records. Compare each fingerprint below with the owner of the service, or paste your own trust lines.";
    }
    meaning.hidden = false;
  };

  const filter = (rows) => {
    const apply = () => {
      const needle = one("needle").value.toLowerCase(), bad = one("only-bad").checked;
      let visible = 0;
      for (const { row, text, state } of rows()) {
        row.hidden = !(text.includes(needle) && (!bad || state !== "proven"));
        if (row.nextElementSibling?.className === "detail") row.nextElementSibling.hidden = row.hidden;
        if (!row.hidden) visible += 1;
      }
      one("shown").textContent = needle || bad ? `${visible} shown` : "";
    };
    one("needle").addEventListener("input", apply);
    one("only-bad").addEventListener("change", apply);
    one("filter").hidden = false;
    return apply;
  };

  const main = async () => {
    const data = JSON.parse(one("data").textContent);
    if (!globalThis.crypto?.subtle) {
      one("verdict").textContent = "Nothing was checked: this browser gives this page no cryptography. Open it from a file or over HTTPS, or use trailseal verify-pack.";
      document.body.dataset.state = "done";
      return;
    }
    const ed25519 = await knowsEd25519();
    let rows = [], turn = 0;
    const apply = filter(() => rows);
    const check = async (bindings) => {
      const mine = ++turn;
      document.body.dataset.state = "checking";
      one("verdict").className = "open";
      one("verdict").textContent = "Checking…";
      const trails = [];
      for (const trail of data.trails) {
        try {
          const found = await checkTrail(trail, bindings, ed25519);
          trails.push(found.signed ? { ...found, state: "proven" } : { ...found, state: "open", reason: "signature not checked: no Ed25519 in this browser" });
        } catch (error) {
          trails.push({ state: "broken", reason: why(error) });
        }
      }
      const judge = async (record) => {
        const trail = trails[record.trail];
        let leaf = null;
        try { leaf = JSON.parse(record.leaf); } catch { /* the check below says so */ }
        try {
          if (trail.state === "broken") throw new Broken(`its trail: ${trail.reason}`);
          const hash = await checkRecord(record, trail);
          return { leaf, hash, state: trail.state, reason: trail.reason };
        } catch (error) {
          return { leaf, state: "broken", reason: why(error) };
        }
      };
      const results = [];
      for (let at = 0; at < data.records.length; at += AT_ONCE) {
        results.push(...await Promise.all(data.records.slice(at, at + AT_ONCE).map(judge)));
        if (mine !== turn) return;
        one("verdict").textContent = `Checking… ${results.length} of ${data.records.length}`;
      }
      if (mine !== turn) return;
      /* In the order of time, whichever trail they are from; what has no time that can be read comes first. */
      const moment = (at) => Date.parse(results[at].leaf?.event?.occurred_at) || 0;
      const order = data.records.map((_, at) => at).sort((a, b) => moment(a) - moment(b) || a - b);
      rows = order.map((at, place) => {
        const record = data.records[at];
        const row = rowOf(record, data.trails[record.trail], results[at], place);
        return { row, text: record.leaf.toLowerCase(), state: results[at].state };
      });
      one("events").tBodies[0].replaceChildren(...rows.map(({ row }) => row));
      showTrails(data, trails);
      say(results, data.total, ed25519, bindings.length > 0);
      apply();
      document.body.dataset.state = "done";
    };
    one("trust").addEventListener("submit", async (submitted) => {
      submitted.preventDefault();
      one("lines-error").textContent = "";
      try {
        await check(await parseTrust(one("lines").value));
      } catch (error) {
        one("lines-error").textContent = why(error);
      }
    });
    one("trust").hidden = !ed25519;
    await check([]);
  };

  main().catch((error) => {
    one("verdict").className = "broken";
    one("verdict").textContent = `Nothing is proven: this page's data cannot be read (${error.message}).`;
    document.body.dataset.state = "done";
  });
})();
