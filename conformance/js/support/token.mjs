// Signs JWTs with nothing but node's own cryptography.

import { createHmac, createSign, generateKeyPairSync, sign as signRaw } from 'node:crypto';
import { SECRET } from './server.mjs';

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

const SIGNERS = {
  HS: (bits, key) => (text) => createHmac(`sha${bits}`, key).update(text).digest(),
  RS: (bits, key) => (text) => createSign(`sha${bits}`).update(text).sign(key),
  ES: (bits, key) => (text) => createSign(`sha${bits}`).update(text)
    .sign({ key, dsaEncoding: 'ieee-p1363' }),
  Ed: (_, key) => (text) => signRaw(null, Buffer.from(text), key),
};

/** A token with these claims. */
export function token(claims, { alg = 'HS256', key = SECRET } = {}) {
  const text = `${encode({ alg, typ: 'JWT' })}.${encode(claims)}`;
  const signer = SIGNERS[alg.slice(0, 2)](alg.slice(2), key);
  return `${text}.${signer(text).toString('base64url')}`;
}

/** A connection token of a user. */
export const userToken = (user, claims = {}, how = {}) => token({ sub: user, ...claims }, how);

/** A subscription token. */
export const channelToken = (user, channel, claims = {}) => token({ sub: user, channel, ...claims });

/** Unix time, so many seconds from now. */
export const inSeconds = (seconds) => Math.floor(Date.now() / 1000) + seconds;

/** A key pair: the private key, and the public one as PEM text. */
export function keyPair(kind, options) {
  const { privateKey, publicKey } = generateKeyPairSync(kind, options);
  return { privateKey, pem: publicKey.export({ type: 'spki', format: 'pem' }) };
}
