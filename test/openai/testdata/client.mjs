// Asks the API at argv[2] with the key argv[3], with OpenAI's client for JavaScript, which is in the
// folder argv[4]. It prints a line for each check that passed, and throws at the first that did not.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [, , baseURL, apiKey, folder, answer, filling, loop] = process.argv;
const { default: OpenAI } = createRequire(join(folder, 'x.js'))('openai');
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const model = 'tiny';
const messages = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: [{ type: 'text', text: 'a-phrase-that-nobody-logs' }] },
];
const tools = [{
  type: 'function',
  function: {
    name: 'glob',
    parameters: { type: 'object', properties: { pattern: { type: 'string' } }, required: ['pattern'] },
  },
}];

async function refused(status, code, params, options) {
  for (const stream of [false, true]) {
    await assert.rejects(client.chat.completions.create({ model, messages, ...params, stream }, options),
      (e) => e instanceof OpenAI.APIError && e.status === status && e.code === code);
  }
}

const checks = {
  async models() {
    const ids = [];
    for await (const m of client.models.list()) ids.push(m.id);
    assert.deepEqual(ids, [model]);
    assert.equal((await client.models.retrieve(model)).id, model);
  },

  async chat() {
    const got = await client.chat.completions.create({ model, messages });
    assert.equal(got.choices[0].message.content, answer);
    assert.equal(got.choices[0].finish_reason, 'stop');
    assert.ok(got.usage.prompt_tokens > 0 && got.usage.completion_tokens > 0);
  },

  async stream() {
    const stream = await client.chat.completions.create({
      model, messages, stream: true, max_tokens: 5, stream_options: { include_usage: true },
    });
    let text = '', reason, usage;
    for await (const c of stream) {
      text += c.choices[0]?.delta.content ?? '';
      reason = c.choices[0]?.finish_reason ?? reason;
      usage = c.usage ?? usage;
    }
    assert.ok(text && answer.startsWith(text));
    assert.equal(reason, 'length');
    assert.equal(usage.completion_tokens, 5);
  },

  async tools() {
    const called = [];
    const runner = client.chat.completions.runTools({
      model, messages, stream: true,
      tools: [{
        type: 'function',
        function: {
          ...tools[0].function,
          parse: JSON.parse,
          function: ({ pattern }) => { called.push(pattern); return 'main.go'; },
        },
      }],
    });
    assert.equal(await runner.finalContent(), answer);
    assert.deepEqual(called, ['*']);

    const got = await client.chat.completions.create({ model, messages, tools });
    const [call] = got.choices[0].message.tool_calls;
    assert.equal(got.choices[0].finish_reason, 'tool_calls');
    assert.deepEqual([call.function.name, call.function.arguments], ['glob', '{"pattern":"*"}']);
    const after = await client.chat.completions.create({
      model, tools,
      messages: [...messages, got.choices[0].message,
        { role: 'tool', tool_call_id: call.id, content: 'main.go' }],
    });
    assert.equal(after.choices[0].message.content, answer);
  },

  async completions() {
    const got = await client.completions.create({ model, prompt: 'func add(', suffix: '}' });
    assert.equal(got.choices[0].text, filling);
    let text = '';
    for await (const c of await client.completions.create({ model, prompt: 'Hi', stream: true })) {
      text += c.choices[0].text;
    }
    assert.equal(text, answer);
  },

  async embeddings() { // the client asks for base64, and decodes it
    const input = ['a', 'b'];
    const coded = await client.embeddings.create({ model, input });
    const plain = await client.embeddings.create({ model, input, encoding_format: 'float' });
    assert.equal(coded.data.length, 2);
    assert.deepEqual(coded.data[1].embedding.map(Math.fround),
      plain.data[1].embedding.map(Math.fround));
  },

  async errors() {
    const wrong = new OpenAI({ baseURL, apiKey: 'cck_WRONG', maxRetries: 0 });
    await assert.rejects(wrong.models.list(), OpenAI.AuthenticationError);
    await refused(404, 'model_not_found', { model: 'absent' });
    await refused(400, 'unsupported_value', { n: 2 });
    await refused(400, 'context_length_exceeded',
      { messages: [{ role: 'user', content: 'x '.repeat(140000) }] });
  },

  async abort() {
    const stream = await client.completions.create({ model, prompt: 'Hi' + loop, stream: true });
    for await (const _ of stream) break; // which aborts the request
  },
};

for (const [name, check] of Object.entries(checks)) {
  await check();
  console.log(name);
}
