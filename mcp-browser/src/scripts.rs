//! Scripts that are run in pages. All but the last only read. What they answer is the page's word: it is bounded
//! and treated as text.

/// The values of fields that people do not want on a screen, of this document and its open shadow roots.
pub(crate) const HIDDEN_VALUES: &str = r"() => {
  const found = [];
  const visit = (root, depth) => {
    for (const field of root.querySelectorAll('input[type=password], input[autocomplete=one-time-code], input[autocomplete^=cc-], input[autocomplete$=password]'))
      if (field.value && found.length < 100) found.push(String(field.value));
    if (depth < 8) for (const host of root.querySelectorAll('*')) if (host.shadowRoot) visit(host.shadowRoot, depth + 1);
  };
  visit(document, 0);
  return found;
}";

/// A copy of an element's HTML without scripts, styles and hidden parts, shadow roots put in their place, at most so
/// many characters. Called with the element and the bound.
pub(crate) const CLEAN_HTML: &str = r"(root, most) => {
  const skip = new Set(['SCRIPT', 'STYLE', 'NOSCRIPT', 'TEMPLATE', 'SVG', 'CANVAS', 'IFRAME', 'LINK', 'META', 'HEAD']);
  const keep = ['href', 'src', 'alt', 'title', 'colspan', 'rowspan', 'type', 'start'];
  const empty = new Set(['BR', 'HR', 'IMG', 'INPUT']);
  const out = []; let size = 0;
  const push = text => { size += text.length; if (size <= most) out.push(text); };
  const escape = text => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/\x22/g, '&quot;');
  const visit = (node, depth) => {
    if (size > most) return;
    if (node.nodeType === Node.TEXT_NODE) return push(escape(node.data));
    if (node.nodeType !== Node.ELEMENT_NODE || skip.has(node.tagName.toUpperCase())) return;
    const style = getComputedStyle(node);
    if (style.display === 'none' || style.visibility === 'hidden') return;
    const tag = node.tagName.toLowerCase();
    let open = '<' + tag;
    for (const name of keep) {
      let value = node.getAttribute(name);
      if (value === null) continue;
      if (name === 'href' || name === 'src') { if (/^(data|javascript):/i.test(value)) continue; try { value = new URL(value, document.baseURI).href } catch {} }
      open += ' ' + name + '=\x22' + escape(value) + '\x22';
    }
    push(open + '>');
    if (empty.has(node.tagName)) return;
    const children = node.tagName === 'SLOT' && node.assignedNodes().length ? node.assignedNodes()
      : (node.shadowRoot || node).childNodes;
    if (depth < 200) for (const child of children) visit(child, depth + 1);
    push('</' + tag + '>');
  };
  visit(root, 0);
  return { html: out.join(''), cut: size > most };
}";

/// The visible text of an element, at most so many characters.
pub(crate) const TEXT: &str = r"(element, most) => {
  const text = element.value !== undefined && /^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName)
    ? (element.type === 'password' ? '[hidden]' : String(element.value)) : (element.innerText ?? element.textContent ?? '');
  return text.slice(0, most);
}";

/// The HTML of an element with everything in it, at most so many characters.
pub(crate) const HTML: &str = "(element, most) => element.outerHTML.slice(0, most)";

/// The attributes of an element, at most so many characters of each.
pub(crate) const ATTRIBUTES: &str = r"(element, most) => Object.fromEntries(Array.from(element.attributes).slice(0, 200).map(
  a => [a.name, (a.name === 'value' && element.type === 'password' ? '[hidden]' : a.value).slice(0, Math.min(most, 2000))]))";

/// The rows of a table, or of the first table inside of an element.
pub(crate) const TABLE: &str = r"(element, most) => {
  const table = element.tagName === 'TABLE' ? element : element.querySelector('table');
  if (!table) return null;
  let size = 0; const rows = [];
  for (const row of table.rows) {
    const cells = Array.from(row.cells).map(cell => cell.innerText.trim());
    size += cells.reduce((sum, cell) => sum + cell.length + 4, 4);
    if (size > most) break;
    rows.push(cells);
  }
  return rows;
}";

/// The items of the local storage, or of the session storage.
pub(crate) const STORED: &str = r"local => {
  const storage = local ? localStorage : sessionStorage;
  return Array.from({ length: storage.length }, (_, n) => storage.key(n)).map(name => [name, storage.getItem(name)]);
}";

/// Sets an item of a storage, or removes it where there is no value.
pub(crate) const STORE: &str = r"({ local, name, value }) => {
  const storage = local ? localStorage : sessionStorage;
  if (value === null) storage.removeItem(name); else storage.setItem(name, value);
}";
