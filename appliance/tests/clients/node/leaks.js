// Runs each line of the file that SALLYPORT_STATEMENTS names, and prints everything that comes back:
// by the simple protocol, by the extended one, and with results in binary.
// Connects by the PG* environment variables.
'use strict';

const modules = process.env.SALLYPORT_NODE_MODULES;
const { Client } = require(require.resolve('pg', { paths: [modules] }));
const statements = require('node:fs').readFileSync(process.env.SALLYPORT_STATEMENTS, 'utf8').split('\n');

async function connect() {
  const client = new Client();
  client.on('error', () => {});
  client.on('notice', (notice) => console.log('notice', notice.message, notice.detail));
  client.on('notification', (notification) => console.log('notification', notification.payload));
  await client.connect();
  return client;
}

async function main() {
  for (const way of [{}, { values: [] , queryMode: 'extended' }, { values: [], queryMode: 'extended', binary: true }]) {
    let client = await connect();
    for (const text of statements) {
      if (!text || text.startsWith('copy ')) continue;
      try {
        const { rows } = await client.query({ text, rowMode: 'array', ...way });
        for (const row of rows) console.log(row.map((value) => (Buffer.isBuffer(value) ? value.toString('latin1') : JSON.stringify(value))).join(' | '));
      } catch (error) {
        console.log('error', error.code, error.message, error.detail, error.hint, error.where);
        if (!error.code) {
          console.log('reconnecting');
          await client.end().catch(() => {});
          client = await connect();
        }
      }
    }
    await client.end();
  }
}

main();
