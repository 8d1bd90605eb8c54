// Shows /api/openapi.json, in English or Chinese, with a form for each method. The key that is typed in stays in its field.

const texts = {
  en: {
    title: 'Barrage server API', other: '中文', key: 'API key', send: 'Send', request: 'Request', result: 'Result',
    scopes: 'Scopes', required: 'required', field: 'Field', type: 'Type', meaning: 'Meaning', body: 'Body of the request',
    failed: 'The request failed', loading: 'The description could not be loaded', nothing: 'no fields', any: 'any JSON value',
    intro: 'POST /api/METHOD with one JSON object and the header X-API-Key. The answer holds result, or error with a code and a message.',
  },
  zh: {
    title: 'Barrage 服务端 API', other: 'English', key: 'API 密钥', send: '发送', request: '请求', result: '结果',
    scopes: '权限', required: '必填', field: '字段', type: '类型', meaning: '含义', body: '请求体',
    failed: '请求失败', loading: '无法加载接口描述', nothing: '无字段', any: '任意 JSON 值',
    intro: '用 POST 向 /api/方法 发送一个 JSON 对象，并带上请求头 X-API-Key。应答包含 result，或带有错误码与说明的 error。',
  },
};

const $ = (id) => document.getElementById(id);
let language = navigator.language.startsWith('zh') ? 'zh' : 'en';
let description = null;

function element(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  e.append(...children);
  return e;
}

const resolve = (schema) =>
  schema.$ref ? description.components.schemas[schema.$ref.split('/').pop()] : schema;

function typeName(schema) {
  if (schema.$ref) return schema.$ref.split('/').pop();
  if (schema.type === 'array') return `${typeName(schema.items)}[]`;
  if (schema.type === 'object' && schema.additionalProperties) return `{${typeName(schema.additionalProperties)}}`;
  return schema.type ?? texts[language].any;
}

// referred lists the schemas that a schema mentions, for the tables below the first.
function referred(schema, seen) {
  for (const part of Object.values(schema.properties ?? {})) {
    const inner = part.items ?? (typeof part.additionalProperties === 'object' ? part.additionalProperties : part);
    const name = inner.$ref?.split('/').pop();
    if (name && !seen.has(name) && Object.keys(resolve(inner).properties ?? {}).length) {
      seen.add(name);
      referred(resolve(inner), seen);
    }
  }
  return seen;
}

function table(schema) {
  const t = texts[language];
  const names = Object.keys(schema.properties ?? {});
  if (!names.length) return element('p', { class: 'faint' }, t.nothing);
  const rows = names.map((name) => {
    const p = schema.properties[name];
    const text = (language === 'zh' ? p['x-description-zh'] : p.description) ?? '';
    const mark = schema.required?.includes(name) ? element('span', { class: 'faint' }, ` ${t.required}`) : '';
    const cells = [element('td', {}, element('code', {}, name), mark), element('td', { class: 'type' }, typeName(p)), element('td', {}, text)];
    return element('tr', {}, ...cells);
  });
  const head = element('tr', {}, ...[t.field, t.type, t.meaning].map((h) => element('th', { scope: 'col' }, h)));
  return element('table', {}, element('thead', {}, head), element('tbody', {}, ...rows));
}

function tables(title, schema) {
  const first = resolve(schema);
  const out = [element('h2', {}, title), table(first)];
  for (const name of referred(first, new Set())) {
    out.push(element('h2', {}, name), table(description.components.schemas[name]));
  }
  return out;
}

function form(path, example) {
  const t = texts[language];
  const body = element('textarea', { 'aria-label': `${t.body} ${path}`, spellcheck: 'false' });
  // Without a key of its own, which would make every request after the first a repetition of it.
  body.value = JSON.stringify(example, (name, value) => (name === 'idempotency_key' ? undefined : value), 2);
  const send = element('button', { type: 'button' }, t.send);
  const answer = element('pre', { hidden: '', 'aria-live': 'polite' });
  send.addEventListener('click', async () => {
    send.disabled = true;
    try {
      const response = await fetch(path, {
        method: 'POST', body: body.value, credentials: 'omit',
        headers: { 'X-API-Key': $('key').value, 'Content-Type': 'application/json' },
      });
      const text = await response.text();
      let shown = text;
      try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* shown as it came */ }
      answer.textContent = `${response.status}\n${shown}`;
      answer.className = response.ok ? '' : 'bad';
    } catch (error) {
      answer.textContent = `${t.failed}: ${error.message}`;
      answer.className = 'bad';
    }
    answer.hidden = false;
    send.disabled = false;
  });
  return element('div', {}, element('p', {}, body), element('p', {}, send), answer);
}

function section([path, { post }]) {
  const t = texts[language];
  const content = post.requestBody.content['application/json'];
  const title = element('summary', {}, element('span', { class: 'path' }, `POST ${path}`), language === 'zh' ? post['x-summary-zh'] : post.summary);
  const inside = element('div', {});
  if (!content) {
    inside.append(element('p', {}, post.description));
  } else {
    const outcome = post.responses['200'].content['application/json'].schema.oneOf[0].properties.result;
    inside.append(element('p', { class: 'faint' }, `${t.scopes}: ${post['x-scope']}`),
      ...tables(t.request, content.schema), ...tables(t.result, outcome), form(path, content.example));
  }
  return element('details', { id: post.operationId }, title, inside);
}

function show() {
  const t = texts[language];
  document.documentElement.lang = language;
  document.title = t.title;
  $('title').textContent = t.title;
  $('intro').textContent = t.intro;
  $('key-label').textContent = t.key;
  $('language').textContent = t.other;
  $('language').lang = language === 'zh' ? 'en' : 'zh';
  $('language').setAttribute('aria-label', t.other);
  if (!description) return;
  const open = new Set([...document.querySelectorAll('details[open]')].map((d) => d.id));
  $('methods').replaceChildren(...Object.entries(description.paths).map(section));
  for (const id of open) $(id).open = true;
}

$('key-form').addEventListener('submit', (event) => event.preventDefault()); // the key is sent by the forms of the methods
$('language').addEventListener('click', () => {
  language = language === 'zh' ? 'en' : 'zh';
  show();
});
show();
try {
  description = await (await fetch('/api/openapi.json')).json();
  show();
} catch (error) {
  $('methods').replaceChildren(element('p', { class: 'bad' }, `${texts[language].loading}: ${error.message}`));
}
