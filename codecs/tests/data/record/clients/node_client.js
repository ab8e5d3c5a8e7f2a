// Scenarios with node-postgres; the first argument names one.
const { Client } = require('pg')
const Cursor = require('pg-cursor')
const { from, to } = require('pg-copy-streams')
const { pipeline } = require('node:stream/promises')
const { Readable, Writable } = require('node:stream')

const sink = () => new Writable({ write: (_chunk, _encoding, done) => done() })

const scenarios = {
  async simple(c) {
    await c.query('SELECT 1 AS one; SELECT 2 AS two')
    await c.query('SELECT no_such_column').catch(() => {})
    await c.query("INSERT INTO things VALUES (80, 'node')")
  },
  async prepared(c) {
    for (const number of [1, 2, 3]) {
      await c.query({ name: 'twice', text: 'SELECT $1::int4 * 2', values: [number] })
    }
    await c.query('SELECT $1::text, $2::int4', [null, 5])
    await c.query('SELECT 1 / $1::int4', [0]).catch(() => {})
  },
  async cursors(c) {
    const cursor = c.query(new Cursor('SELECT generate_series(1, $1::int4)', [7]))
    await cursor.read(3)
    await cursor.read(3)
    await cursor.read(3)
    await cursor.close()
  },
  async copy(c) {
    await pipeline(Readable.from(['90\tx\n', '91\ty\n']), c.query(from('COPY things FROM STDIN')))
    await pipeline(c.query(to('COPY (SELECT * FROM things WHERE number > 89) TO STDOUT')), sink())
    await pipeline(Readable.from(['not a number\tx\n']), c.query(from('COPY things FROM STDIN')))
      .catch(() => {})
    await c.query('SELECT 1')
  },
  async notify(c) {
    const heard = new Promise((resolve) => c.on('notification', resolve))
    await c.query('LISTEN news')
    await c.query("NOTIFY news, 'of the day'")
    await heard
  },
}

async function main() {
  const client = new Client({
    host: '127.0.0.1', port: Number(process.env.PGPORT), user: 'tester', database: 'postgres',
  })
  await client.connect()
  await scenarios[process.argv[2]](client)
  await client.end()
}

main().catch((error) => { console.error(error); process.exit(1) })
