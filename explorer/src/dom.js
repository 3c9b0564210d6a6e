// Elements with text. Nothing that comes from the catalogue is ever parsed as HTML.

/** An element: `on…` properties are listeners, `null` ones are left out, children are elements or text. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined),
  );
  return element;
}

/** A name that may be broken after each underscore. */
export function breakable(name) {
  return name.split("_").flatMap((part, i) => (i ? ["_", h("wbr"), part] : [part]));
}

/** Saves text as a file. */
export function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
