// Where the scripts' imports lead, and that they are modules though their names end in .js.
const OURS = {
  k6: './k6.mjs',
  'k6/http': './k6.mjs',
  'k6/metrics': './k6.mjs',
  'k6/websockets': './k6.mjs',
  'k6/x/sse': './sse.mjs',
};

export function resolve(specifier, context, next) {
  if (specifier in OURS) {
    return { url: new URL(OURS[specifier], import.meta.url).href, shortCircuit: true };
  }
  return next(specifier, context);
}

export function load(url, context, next) {
  return next(url, url.endsWith('.js') ? { ...context, format: 'module' } : context);
}
