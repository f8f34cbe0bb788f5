// Starts the real binary on free ports and ends it by its process, never by its name.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

// One file starts more servers than an emitter has listeners by default.
process.setMaxListeners(100);

const START_MS = 15_000;
const STOP_MS = 10_000;

const binary = process.env.PLIMSOLL_BIN
  ? resolve(process.env.PLIMSOLL_BIN)
  : resolve(import.meta.dirname, '../../../target/release/plimsoll');

export const API_KEY = 'a-key-for-tests-only';
export const SECRET = 'a-secret-for-tests-of-32-bytes-or-more';

/** What most tests need: tokens, the HTTP API, no origins, and whatever `extra` adds. */
export function config(extra = '', client = '') {
  return `
[client]
${client}
[client.token]
hmac_secret_key = "${SECRET}"
[http_api]
key = "${API_KEY}"
${extra}
`;
}

/** A namespace in which clients with an id may do everything, with `options` over it. */
export function namespace(name, options = '') {
  return `
[[channel.namespaces]]
name = "${name}"
allow_subscribe_for_client = true
allow_publish_for_subscriber = true
allow_presence_for_subscriber = true
allow_history_for_subscriber = true
${options}
`;
}

/** Starts a node with this configuration (TOML). */
export async function serve(toml, { listen = '127.0.0.1:0' } = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'plimsoll-js-'));
  const file = join(folder, 'plimsoll.toml');
  await writeFile(file, toml);
  const args = ['serve', '--config', file, '--listen', listen, '--admin-listen', '127.0.0.1:0'];
  return start(args, folder);
}

/** Starts the development server: what a user gets without any argument, on free ports. */
export async function develop() {
  return start(['--listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0'], null);
}

async function start(args, folder) {
  if (!existsSync(binary)) {
    throw new Error(`no server at ${binary}: run \`cargo build --release\`, or set PLIMSOLL_BIN`);
  }
  // Nothing of the developer's own settings may reach the server.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([key]) => !key.startsWith('PLIMSOLL_')),
  );
  // What is refused must not depend on what else this machine does.
  env.PLIMSOLL_OVERLOAD_ENABLED = 'false';
  const child = spawn(binary, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  // A test file that fails while it is loaded must not leave a server behind.
  process.once('exit', () => child.kill('SIGKILL'));
  const server = new Server(child, folder);
  await server.ready();
  return server;
}

class Server {
  #child;
  #folder;
  #out = '';
  #errors = '';
  #exit;

  constructor(child, folder) {
    this.#child = child;
    this.#folder = folder;
    child.stdout.setEncoding('utf8').on('data', (text) => { this.#out += text; });
    child.stderr.setEncoding('utf8').on('data', (text) => { this.#errors += text; });
    this.#exit = new Promise((done) => {
      child.on('error', (error) => done(`could not be started: ${error.message}`));
      child.on('close', (code, signal) => done(signal ? `ended by ${signal}` : `exit code ${code}`));
    });
  }

  async ready() {
    const gone = this.#exit.then((how) => {
      throw new Error(`the server did not start: ${how}\n${this.#errors}`);
    });
    const late = deadline(START_MS, () => `the server did not say that it is ready\n${this.#errors}`);
    const said = new Promise((done) => {
      const look = () => {
        const clients = /^clients:\s+(\S+)$/m.exec(this.#out);
        const admin = /^admin:\s+(\S+)\n/m.exec(this.#out);
        if (clients && admin) done([clients[1], admin[1]]);
      };
      this.#child.stdout.on('data', look);
    });
    try {
      [this.url, this.admin] = await Promise.race([said, gone, late.promise]);
    } catch (error) {
      this.#child.kill('SIGKILL');
      throw error;
    } finally {
      late.clear();
    }
    this.address = new URL(this.url).host;
    this.ws = `ws://${this.address}/connection/websocket`;
  }

  get stderr() {
    return this.#errors;
  }

  /** One call of the HTTP API: the whole answer. */
  async api(method, body, headers = { 'X-API-Key': API_KEY }) {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const answer = await fetch(new URL(`/api/${method}`, this.url), {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...headers },
      body: text,
    });
    const json = answer.headers.get('content-type')?.startsWith('application/json');
    return { status: answer.status, body: json ? await answer.json() : await answer.text() };
  }

  /** The result of a call that has to succeed. */
  async call(method, body) {
    const { status, body: answer } = await this.api(method, body);
    if (status !== 200 || !answer.result) {
      throw new Error(`${method}: status ${status}, ${JSON.stringify(answer)}`);
    }
    return answer.result;
  }

  /** Ends it as a supervisor would. A server that crashed, panicked or hangs fails the test. */
  async stop() {
    this.#child.kill('SIGTERM');
    const late = deadline(STOP_MS, () => 'the server does not end');
    try {
      const how = await Promise.race([this.#exit, late.promise]);
      if (how !== 'exit code 0') throw new Error(`the server ended badly: ${how}`);
      if (/panic/i.test(this.#errors)) throw new Error('the server panicked');
    } catch (error) {
      this.#child.kill('SIGKILL');
      throw new Error(`${error.message}\n${this.#errors}`);
    } finally {
      late.clear();
      if (this.#folder) await rm(this.#folder, { recursive: true, force: true });
    }
  }
}

function deadline(ms, sentence) {
  let timer;
  const promise = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(sentence())), ms);
  });
  return { promise, clear: () => clearTimeout(timer) };
}
