//! Scripts that are run in pages. All but the last only read. What they answer is the page's word: it is bounded
//! and treated as text.

/// Puts the focus, and the caret at the end, where an element takes a text. Answers nothing, or why it takes none. An
/// element that takes the focus without being a field may deal with keys itself.
pub(crate) const FOCUS: &str = r"element => {
  const label = element.closest('label');
  if (label && label.control && !element.matches('input, textarea, select, button') && !element.isContentEditable) element = label.control;
  const tag = element.tagName;
  if (tag === 'INPUT' || tag === 'TEXTAREA') {
    if (element.disabled) return 'disabled';
    if (element.readOnly) return 'readonly';
    if (['checkbox', 'radio', 'button', 'submit', 'reset', 'file', 'image', 'range', 'color', 'hidden'].includes(element.type)) return 'field';
    element.focus();
    try { element.setSelectionRange(element.value.length, element.value.length) } catch {}
    return '';
  }
  if (element.isContentEditable) {
    let host = element;
    while (host.parentElement && host.parentElement.isContentEditable) host = host.parentElement;
    host.focus();
    const range = document.createRange(); range.selectNodeContents(element); range.collapse(false);
    const selection = getSelection(); selection.removeAllRanges(); selection.addRange(range);
    return '';
  }
  if (element.matches(':disabled')) return 'disabled';
  element.focus();
  return element.getRootNode().activeElement === element ? '' : 'none';
}";

/// Sets the value of a text field as a paste would, with the events that pages listen to. Answers whether it did.
pub(crate) const SET_VALUE: &str = r"(element, text) => {
  const field = element.closest('label')?.control ?? element;
  if (!field.matches('textarea, input:not([type]), input[type=text], input[type=search], input[type=password], input[type=url], input[type=email], input[type=tel]')) return false;
  if (field.disabled || field.readOnly || (field.maxLength >= 0 && field.maxLength < text.length)) return false;
  field.focus();
  const own = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), 'value');
  own.set.call(field, text);
  for (const name of ['input', 'change']) field.dispatchEvent(new Event(name, { bubbles: true, composed: true }));
  return true;
}";

/// Whether something has the focus that may take keys; in a frame that cannot be looked into it may.
pub(crate) const AT_FOCUS: &str = r"() => {
  let active = document.activeElement;
  while (active && active.shadowRoot && active.shadowRoot.activeElement) active = active.shadowRoot.activeElement;
  if (!active || active === document.documentElement) return 'none';
  if (active !== document.body) return active.matches(':disabled') ? 'disabled' : active.readOnly ? 'readonly' : '';
  return active.isContentEditable || document.designMode === 'on' ? '' : 'none';
}";

/// Where the file field is that an element stands for.
pub(crate) const FILE_FIELD: &str = r"element => {
  const is = field => !!field && field.tagName === 'INPUT' && field.type === 'file';
  if (is(element)) return 'itself';
  const label = element.closest('label');
  if (label && is(label.control) && !element.matches('a, input, textarea, button, select, [role=link], [role=button], [role=checkbox], [role=radio]')) return 'itself';
  return element.querySelectorAll('input[type=file]').length === 1 ? 'inside' : 'chosen';
}";

/// The values of fields that people do not want on a screen, of this document and its open shadow roots.
pub(crate) const HIDDEN_VALUES: &str = r"() => {
  const found = [];
  const visit = (root, depth) => {
    for (const field of root.querySelectorAll('input[type=password], input[autocomplete=one-time-code], input[autocomplete^=cc-], input[autocomplete$=password], input[name*=passw i], input[id*=passw i]'))
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

/// The rows of a table, an ARIA table or grid, or of the first inside of an element. Hidden rows are left out; a cell
/// that spans columns or rows stands at its first place and leaves the others empty.
pub(crate) const TABLE: &str = r"(element, most) => {
  const roles = '[role=table], [role=grid], [role=treegrid]';
  const table = element.matches('table, ' + roles) ? element : element.querySelector('table, ' + roles) || element.closest('table, ' + roles);
  if (!table) return null;
  const shown = node => { const style = getComputedStyle(node); return style.display !== 'none' && style.visibility !== 'hidden' && style.visibility !== 'collapse' };
  const of = (node, name) => Math.min(Math.max(Number(node.getAttribute(name)) || 1, 1), 1000);
  const text = cell => (cell.innerText ?? cell.textContent ?? '').trim();
  const html = table.tagName === 'TABLE' && table.rows.length;
  let list = html ? Array.from(table.rows)
    : Array.from(table.querySelectorAll('[role=row]')).filter(row => row.closest(roles) === table);
  list = list.filter(row => shown(row) && (!row.parentElement || shown(row.parentElement)));
  if (!html && list.some(row => row.hasAttribute('aria-rowindex'))) {
    // Grids that draw a part of their rows, perhaps in several blocks beside each other: by the place that they name.
    const places = new Map();
    for (const row of list) {
      const place = Number(row.getAttribute('aria-rowindex')) || 0;
      if (!places.has(place)) places.set(place, []);
      places.get(place).push(row);
    }
    list = Array.from(places.entries()).sort((a, b) => a[0] - b[0]).map(entry => entry[1]);
  }
  const rows = [], taken = []; let size = 0;
  for (const row of list) {
    const cells = Array.isArray(row) ? row.flatMap(part => Array.from(part.querySelectorAll('[role=gridcell], [role=cell], [role=columnheader], [role=rowheader]')))
      : html ? Array.from(row.cells) : Array.from(row.querySelectorAll('[role=gridcell], [role=cell], [role=columnheader], [role=rowheader]'));
    if (cells.length && cells.every(cell => cell.hasAttribute('aria-colindex')))
      cells.sort((a, b) => a.getAttribute('aria-colindex') - b.getAttribute('aria-colindex'));
    const out = []; let column = 0;
    const skip = () => { while (taken[column] > 0) { taken[column]--; out[column++] = ''; } };
    for (const cell of cells) {
      if (!shown(cell)) continue;
      skip();
      const wide = html ? of(cell, 'colspan') : of(cell, 'aria-colspan'), high = html ? of(cell, 'rowspan') : of(cell, 'aria-rowspan');
      for (let n = 0; n < wide; n++) { out[column] = n ? '' : text(cell); if (high > 1) taken[column] = high - 1; column++; }
    }
    skip();
    size += out.reduce((sum, cell) => sum + cell.length + 4, 4);
    if (size > most) break;
    rows.push(out);
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
