// What node-postgres sees of a database: prints the same through the appliance as directly.
// Connects by the PG* environment variables. Prints nothing that differs from run to run.
'use strict';

const { once } = require('node:events');
const { pipeline } = require('node:stream/promises');
const { Readable, Writable } = require('node:stream');
const modules = process.env.SALLYPORT_NODE_MODULES;
const load = (name) => require(require.resolve(name, { paths: [modules] }));
const { Client, Pool } = load('pg');
const Cursor = load('pg-cursor');
const { from: copyFrom, to: copyTo } = load('pg-copy-streams');

// node-postgres does not read PGSSLROOTCERT; `ca` and a host name make it verify both.
const ssl = process.env.PGSSLROOTCERT && { ca: require('node:fs').readFileSync(process.env.PGSSLROOTCERT, 'utf8') };

const title = (text) => console.log(`== ${text}`);

async function failure(what, promise) {
  try {
    await promise;
    console.log(what, 'succeeded');
  } catch (error) {
    console.log(what, error.code, error.message);
  }
}

async function main() {
  // A listener for notifications of lost connections, which node would otherwise throw.
  const client = new Client({ ssl });
  client.on('error', (error) => console.log('lost', error.code));
  await client.connect();

  title('simple');
  console.log((await client.query("select 1 as a, 'text' as b, null as c, 1.50::numeric as d")).rows);
  console.log((await client.query('select id, name from customers order by id limit 3')).rows);
  console.log((await client.query('select 1; select 2')).map((result) => result.rowCount));
  await failure('division', client.query('select 1/0'));

  title('parameters and prepared');
  for (let id = 1; id <= 5; id += 1) {
    const query = { name: 'by-id', text: 'select name from customers where id = $1', values: [id] };
    console.log((await client.query(query)).rows);
  }
  console.log((await client.query('select $1::bytea as bytes, $2::int[] as list', [Buffer.from([0, 255]), [1, 2]])).rows);
  console.log((await client.query({ text: 'select 7::int8 as n', rowMode: 'array', values: [] })).rows);
  await failure('type', client.query('select $1::int', ['x']));
  console.log((await Promise.all([1, 2, 3].map((n) => client.query('select $1::int as n', [n])))).map((r) => r.rows[0].n));

  title('transactions');
  await client.query('create temp table made (a int, b text)');
  await client.query('begin');
  await client.query("insert into made values (1, 'kept')");
  await client.query('savepoint s');
  await failure('inside', client.query('select 1/0'));
  await failure('aborted', client.query('select 1'));
  await client.query('rollback to s');
  await client.query('commit');
  console.log((await client.query('select * from made')).rows);

  title('copy');
  const rows = Array.from({ length: 1000 }, (_, n) => `${n}\trow ${n}\n`);
  await pipeline(Readable.from(rows), client.query(copyFrom('copy made from stdin')));
  let bytes = 0;
  const sink = new Writable({ write(chunk, _encoding, done) { bytes += chunk.length; done(); } });
  await pipeline(client.query(copyTo('copy made to stdout')), sink);
  console.log(bytes);
  await failure('copy', pipeline(Readable.from(['x\ty\n']), client.query(copyFrom('copy made from stdin'))));
  console.log((await client.query('select count(*) from made')).rows);

  title('cursors');
  const cursor = client.query(new Cursor('select id from orders order by id'));
  let total = 0;
  for (let read = await cursor.read(77); read.length > 0; read = await cursor.read(77)) {
    total += read.reduce((sum, row) => sum + row.id, 0);
  }
  await cursor.close();
  console.log(total);
  const abandoned = client.query(new Cursor('select id from orders order by id'));
  console.log((await abandoned.read(2)).length);
  await abandoned.close();
  console.log((await client.query('select 3 as n')).rows);

  title('notifications');
  await client.query('listen news');
  const arrived = once(client, 'notification');
  await client.query("notify news, 'payload'");
  const [notification] = await arrived;
  console.log(notification.channel, notification.payload);

  title('cancel');
  const sleeping = failure('cancelled', client.query('select pg_sleep(60)'));
  // The request carries no secret but the key, and node-postgres sends it without TLS.
  const canceller = new Client({ ssl: false });
  setTimeout(() => canceller.cancel(client, client._activeQuery || client.activeQuery), 500);
  await sleeping;
  console.log((await client.query('select 4 as n')).rows);
  await client.end();

  title('pool');
  const pool = new Pool({ max: 4, ssl });
  const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => pool.query('select $1::int as n', [n])));
  console.log(answers.map((answer) => answer.rows[0].n).join(' '));
  await pool.end();
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
