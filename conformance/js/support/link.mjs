// A network between a client and the server that can be cut, stays cut, and is mended on demand.

import { connect, createServer } from 'node:net';
import { once } from 'node:events';

/** A link to `server`; use it in place of the server. It is gone at the end of test `t`. */
export async function link(t, server) {
  const made = new Link(new URL(server.url));
  await made.open();
  t.after(() => made.close());
  return made;
}

class Link {
  #target;
  #listener;
  #sockets = new Set();
  #cut = false;

  constructor(target) {
    this.#target = target;
    this.#listener = createServer((near) => this.#join(near));
  }

  async open() {
    this.#listener.listen(0, '127.0.0.1');
    await once(this.#listener, 'listening');
    this.ws = `ws://127.0.0.1:${this.#listener.address().port}/connection/websocket`;
  }

  /** Ends everything that passes, without a goodbye; nothing passes until `mend`. */
  cut() {
    this.#cut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend() {
    this.#cut = false;
  }

  close() {
    this.cut();
    this.#listener.close();
  }

  #join(near) {
    if (this.#cut) {
      near.destroy();
      return;
    }
    const far = connect(Number(this.#target.port), this.#target.hostname);
    for (const [socket, other] of [[near, far], [far, near]]) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => {});
      socket.on('close', () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
      socket.pipe(other);
    }
  }
}
