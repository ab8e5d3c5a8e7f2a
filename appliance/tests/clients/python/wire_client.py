"""Every message that a server sends in answer to scripted bytes, field by field: the same through the appliance as directly.

Speaks the protocol by itself, so that nothing is lost in a driver. Connects by the PG* environment variables.
"""

import hashlib
import os
import socket
import ssl
import struct

FIELDS = {
    "S": "severity", "V": "severity-en", "C": "code", "M": "message", "D": "detail", "H": "hint", "P": "position",
    "p": "internal-position", "q": "internal-query", "W": "where", "s": "schema", "t": "table", "c": "column",
    "d": "datatype", "n": "constraint", "F": "file", "L": "line", "R": "routine",
}
PLAIN = {"1": "ParseComplete", "2": "BindComplete", "3": "CloseComplete", "n": "NoData", "s": "PortalSuspended",
         "I": "EmptyQueryResponse", "c": "CopyDone"}


def shown(value):
    """A value that a person can read, or its length and digest."""
    if value is None:
        return "NULL"
    if len(value) > 200:
        return f"({len(value)} bytes, {hashlib.sha256(value).hexdigest()[:16]})"
    return repr(value)[1:]


class Body:
    def __init__(self, body):
        self.body, self.at = body, 0

    def take(self, form):
        values = struct.unpack_from(form, self.body, self.at)
        self.at += struct.calcsize(form)
        return values if len(values) > 1 else values[0]

    def text(self):
        end = self.body.index(0, self.at)
        text, self.at = self.body[self.at:end], end + 1
        return text.decode(errors="backslashreplace")

    def value(self):
        length = self.take("!i")
        if length < 0:
            return None
        value = self.body[self.at:self.at + length]
        self.at += length
        return value


def cstring(text):
    return (text.encode() if isinstance(text, str) else text) + b"\0"


def counted(form, values):
    return struct.pack("!H", len(values)) + b"".join(struct.pack(form, value) for value in values)


def query(text):
    return "Q", cstring(text)


def parse(name, text, types=()):
    return "P", cstring(name) + cstring(text) + counted("!I", types)


def bind(portal, name, values=(), formats=(), results=()):
    encoded = b"".join(struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value for value in values)
    return "B", cstring(portal) + cstring(name) + counted("!h", formats) + struct.pack("!H", len(values)) + encoded + counted("!h", results)


def describe(kind, name):
    return "D", kind.encode() + cstring(name)


def execute(portal, rows=0):
    return "E", cstring(portal) + struct.pack("!i", rows)


def close(kind, name):
    return "C", kind.encode() + cstring(name)


def function_call(oid, values, formats=(1,), result=1):
    encoded = b"".join(struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value for value in values)
    return "F", struct.pack("!I", oid) + counted("!h", formats) + struct.pack("!H", len(values)) + encoded + struct.pack("!h", result)


def copy_data(data):
    return "d", data


def copy_fail(reason):
    return "f", cstring(reason)


COPY_DONE = ("c", b"")
SYNC = ("S", b"")
FLUSH = ("H", b"")


class Connection:
    """One connection; prints whatever comes."""

    def __init__(self, name="", **parameters):
        self.name = name
        self.pid = None
        self.parameters = {}
        host, port = os.environ["PGHOST"], int(os.environ["PGPORT"])
        self.socket = socket.create_connection((host, port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if os.environ["PGSSLMODE"] == "verify-full":
            self.socket.sendall(struct.pack("!ii", 8, 80877103))
            assert self.socket.recv(1) == b"S"
            context = ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"])
            self.socket = context.wrap_socket(self.socket, server_hostname=host)
        self.input = self.socket.makefile("rb", buffering=1 << 16)
        asked = {"user": os.environ["PGUSER"], "database": os.environ["PGDATABASE"], **parameters}
        packet = b"".join(cstring(key) + cstring(value) for key, value in asked.items()) + b"\0"
        self.socket.sendall(struct.pack("!ii", len(packet) + 8, 196608) + packet)
        self.until("ZE", quiet="RSK")
        for key in sorted(self.parameters):
            print(f"{self.name}< ParameterStatus {key}={self.parameters[key]}")

    def message(self):
        header = self.input.read(5)
        if len(header) < 5:
            return None, b""
        tag, length = chr(header[0]), struct.unpack("!i", header[1:])[0]
        return tag, self.input.read(length - 4)

    def send(self, *messages):
        self.socket.sendall(b"".join(tag.encode() + struct.pack("!i", len(body) + 4) + body for tag, body in messages))

    def until(self, last="Z", quiet=""):
        """Prints messages up to one of `last`."""
        while True:
            tag, body = self.message()
            if tag is None:
                print(f"{self.name}< closed")
                return
            self.note(tag, body)
            if tag not in quiet:
                print(f"{self.name}< {self.render(tag, Body(body))}")
            if tag in last:
                return

    def note(self, tag, body):
        body = Body(body)
        if tag == "R":
            kind = body.take("!i")
            if kind == 3:
                self.send(("p", cstring(os.environ["PGPASSWORD"])))
            else:
                assert kind == 0, kind
        elif tag == "K":
            self.pid = body.take("!i")
        elif tag == "S":
            name = body.text()
            self.parameters[name] = body.text()

    def render(self, tag, body):
        if tag in PLAIN:
            return PLAIN[tag]
        if tag in "EN":
            fields = []
            while body.body[body.at]:
                kind = chr(body.take("!B"))
                fields.append(f"{FIELDS.get(kind, kind)}={body.text()!r}")
            return " ".join([{"E": "ErrorResponse", "N": "NoticeResponse"}[tag], *fields])
        if tag == "Z":
            return f"ReadyForQuery {body.body.decode()}"
        if tag == "C":
            return f"CommandComplete {body.text()}"
        if tag == "S":
            return f"ParameterStatus {body.text()}={body.text()}"
        if tag == "A":
            sender = "own" if body.take("!i") == self.pid else "another"
            return f"NotificationResponse {sender} {body.text()!r} {body.text()!r}"
        if tag == "T":
            count = body.take("!H")
            columns = [(body.text(), *body.take("!IhIhih")) for _ in range(count)]
            if count > 50:
                return f"RowDescription {count} columns, {shown(repr(columns).encode())}"
            return "RowDescription " + " ".join(
                f"{name!r}(table={table} attribute={attribute} type={kind} size={size} modifier={modifier} format={form})"
                for name, table, attribute, kind, size, modifier, form in columns)
        if tag == "D":
            count = body.take("!H")
            if count > 50:
                return f"DataRow {count} columns, {shown(body.body)}"
            return " ".join(["DataRow", *(shown(body.value()) for _ in range(count))])
        if tag == "t":
            return "ParameterDescription " + " ".join(str(body.take("!I")) for _ in range(body.take("!H")))
        if tag in "GH":
            overall, count = body.take("!bH")
            formats = " ".join(str(body.take("!h")) for _ in range(count))
            return f"{ {'G': 'CopyInResponse', 'H': 'CopyOutResponse'}[tag] } {overall}: {formats}"
        if tag == "d":
            return f"CopyData {shown(body.body)}"
        if tag == "V":
            return f"FunctionCallResponse {shown(body.value())}"
        return f"{tag} {shown(body.body)}"

    def ask(self, *messages, last="Z", rounds=1):
        """Sends all at once, prints the answers up to the last message expected, `rounds` times."""
        for tag, body in messages:
            print(f"{self.name}> {tag} {shown(body)}")
        self.send(*messages)
        for _ in range(rounds):
            self.until(last)

    def query(self, text):
        self.ask(query(text))

    def close(self):
        self.send(("X", b""))
        assert self.message() == (None, b"")
        self.socket.close()


def title(text):
    print(f"== {text}")


def types(c):
    title("types")
    c.query("""
        create type mood as enum ('sad', 'ok', 'happy');
        create type pair as (a int, b text);
        create domain positive as int check (value > 0);
        create type float_range as range (subtype = float8);
    """)
    expressions = [
        "true", "'x'::\"char\"", "'name'::name", "9223372036854775807::int8", "(-32768)::int2", "'1 2 3'::int2vector", "42::int4",
        "'now'::regproc", "'text'::text", "26::oid", "'(1,2)'::tid", "'5'::xid", "'6'::cid", "'1 2'::oidvector",
        "'{\"a\": [1, null, 1e400]}'::json", "'<a>x</a>'::xml", "'(1,2)'::point", "'[(0,0),(1,1)]'::lseg", "'((0,0),(1,1))'::path", "'(1,1),(0,0)'::box",
        "'((0,0),(1,1),(2,0))'::polygon", "'{1,2,3}'::line", "'10.1.0.0/16'::cidr", "1.17549e-38::float4", "'NaN'::float8",
        "'-infinity'::float8", "'<(1,2),3>'::circle", "'08:00:2b:01:02:03'::macaddr", "'08:00:2b:01:02:03:04:05'::macaddr8",
        "'-92233720368547758.08'::money", "'192.168.1.5'::inet", "'ab  '::bpchar", "'ab'::char(4)", "'varying'::varchar(10)",
        "date '4713-01-01 BC'", "date 'infinity'", "date '5874897-12-31'", "time '24:00:00'", "timestamp '294276-12-31 23:59:59.999999'",
        "timestamp '-infinity'", "timestamptz '2026-11-26 12:00:00.123456+05:30'", "interval '178000000 years -1 days +2:03:04.000005'",
        "timetz '04:05:06.789-08:15'", "b'10110'", "b'101'::varbit(9)", "0::numeric", "'NaN'::numeric", "'Infinity'::numeric", "1e130000::numeric", "-1.0000000000000000000000001::numeric",
        "1e-16000::numeric", "'sys'::text::refcursor", "'int4pl(int,int)'::regprocedure", "'+(int,int)'::regoperator", "'customers'::regclass",
        "'int4'::regtype", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", "'16/B374D848'::pg_lsn", "'a & b'::tsquery", "'a:1 b:2A'::tsvector",
        "'english'::regconfig", "'{\"b\": 1, \"a\": null}'::jsonb", "'$.a[*] ? (@ > 1)'::jsonpath", "'[1,10)'::int4range", "'empty'::numrange", "'(,]'::tsrange",
        "'{[1,2],[5,7)}'::int4multirange", "'10:20:10,14,15'::pg_snapshot", "'\\x00ff'::bytea", "'ok'::mood", "row(1, 'x')::pair", "row(null, 'a,\"b')", "5::positive",
        "'[1.5,2.5]'::float_range", "'{1,null,3}'::int[]", "'{}'::text[]", "'[2:3][-1:0]={{1,2},{3,4}}'::int[]", "array['a,b', '\"', null, '']", "array[row(1,'x')::pair]",
        "array[null::mood, 'sad']", "null::int", "null", "void_of()", "'svc'::regrole", "'public'::regnamespace",
    ]
    c.query("create function void_of() returns void language sql as ''")
    for expression in expressions:
        for form in (0, 1):
            c.ask(parse("", f"select {expression} as v, {expression} is null as n"), bind("", "", results=[form]), describe("P", ""), execute(""), SYNC)
    c.query("select " + ", ".join(expressions))
    c.query("set bytea_output = 'escape'; set datestyle = 'German'; set intervalstyle = 'iso_8601'; set extra_float_digits = 0; set timezone = 'America/St_Johns'")
    c.query("select '\\x00ff'::bytea, date '2026-11-26', interval '1 year 2 months 3 days 4:05:06', 0.1::float8, timestamptz '2026-11-26 12:00+00'")
    c.query("reset bytea_output; reset datestyle; reset intervalstyle; reset extra_float_digits; reset timezone")
    c.ask(parse("", "select length($1), md5($1), $1"), bind("", "", [bytes(range(256)) * 4096], formats=[1], results=[1]), execute(""), SYNC)
    c.query("select repeat('0123456789', 700000)")
    c.query("select id, customer, total from orders order by id")


def shapes(c):
    title("shapes of statements and results")
    for text in ["", ";", " ; ; ", "-- nothing", "select", "select from generate_series(1, 3)", "select 1; select 'two', 2; select null limit 0",
                 "values (1), (2)", "table customers limit 1", "create temp table no_columns ()", "select * from no_columns", "insert into no_columns default values",
                 "select * from no_columns", "explain (costs off) select * from customers where id = 1", "show server_version_num", "vacuum customers",
                 "select 1;; select 2", "select 1; selekt; select 2", "select 1; select 1/0; select 2", "select '\u00e9\u4e16\U0001f600' as \"\u00e9\"",
                 "select 1 as " + "x" * 63, "select 1 as " + "y" * 100, "/* c */ select 1 -- end", "do $$ begin null; end $$",
                 "select 1 as a, 1 as a, 2 as \"?column?\"", "begin; commit; rollback", "update orders set total = total where id < 5", "delete from orders where false",
                 "insert into orders select id + 10000, customer, total from orders where id < 4 returning id, total", "merge into orders o using (select 1 as id) s on o.id = s.id when matched then do nothing",
                 "create table wide as select " + ", ".join(f"{n} as c{n}" for n in range(1600)), "select * from wide", "select * from wide, customers",
                 "select 1 as a into made_by_select", "create index on customers (name)", "comment on table customers is 'x'", "lock table customers", "checkpoint", "fetch all from nothing", "move 1 in nothing"]:
        c.query(text)
    c.ask(parse("", "select " + ", ".join(f"${n}::text" for n in range(1, 101))), describe("S", ""), bind("", "", [str(n).encode() for n in range(100)]), execute(""), SYNC)
    c.ask(parse("", "select $1::int + $2::int"), bind("", "", [b"1"]), execute(""), SYNC)
    c.ask(parse("", "select array_length(array[" + ", ".join(f"${n}::int" for n in range(1, 20001)) + "], 1)"), bind("", "", [b"7"] * 20000), execute(""), SYNC)


def extended(c):
    title("extended protocol")
    c.ask(parse("", ""), describe("S", ""), bind("", ""), describe("P", ""), execute(""), SYNC)
    c.ask(parse("", " -- only a comment"), bind("", ""), execute(""), SYNC)
    c.ask(parse("", "select 1; select 2"), SYNC)
    c.ask(parse("s", "select id, name, $2::text, $3 from customers where id = $1"), describe("S", "s"), SYNC)
    c.ask(parse("s", "select 1"), SYNC)
    c.ask(describe("S", "nothing"), SYNC)
    c.ask(describe("P", "nothing"), SYNC)
    c.ask(bind("", "nothing"), SYNC)
    c.ask(bind("", "s", [b"1", b"a", b"b"], results=[0, 1, 0, 1]), describe("P", ""), execute(""), SYNC)
    c.ask(bind("", "s", [struct.pack("!i", 2), b"a", None], formats=[1, 0, 0], results=[1]), execute(""), SYNC)
    c.ask(bind("", "s", [b"not a number", b"a", b"b"]), execute(""), SYNC)
    c.ask(bind("", "s", [b"\0\0", b"a", b"b"], formats=[1]), execute(""), SYNC)
    c.ask(bind("", "s", [b"1", b"a", b"b"], results=[0, 1]), execute(""), SYNC)
    c.ask(bind("", "s", [b"1", b"a\0b", b"b"]), execute(""), SYNC)
    c.ask(bind("", "s", [b"1", b"\xff", b"b"]), execute(""), SYNC)
    c.ask(close("S", "s"), close("S", "nothing"), close("P", "nothing"), SYNC)
    c.ask(bind("", "s"), SYNC)
    c.ask(parse("", "select $1, $2, $1 + $2", [23, 0]), describe("S", ""), SYNC)
    c.ask(parse("", "select $1 || $2", [25]), describe("S", ""), SYNC)
    c.ask(parse("", "select $1"), describe("S", ""), SYNC)
    c.ask(parse("", "select $2"), describe("S", ""), SYNC)
    c.ask(parse("", "select $1::mood, $2::pair, $3::int[]"), describe("S", ""), SYNC)
    c.ask(parse("", "insert into orders values ($1, $2, $3) returning *"), describe("S", ""), SYNC)
    c.ask(parse("", "create table in_extended (a int)"), describe("S", ""), bind("", ""), describe("P", ""), execute(""), SYNC)
    c.ask(parse("", "explain select 1"), describe("S", ""), SYNC)
    c.ask(parse("", "select no_such_column from customers"), SYNC)
    c.ask(FLUSH, parse("", "select 1"), FLUSH, SYNC, FLUSH)
    c.ask(SYNC, SYNC, SYNC, rounds=3)

    title("portals")
    c.query("begin")
    c.ask(parse("p", "select n from generate_series(1, 10) n"), bind("one", "p"), bind("two", "p"), execute("one", 3), execute("two", 4), execute("one", 3), SYNC)
    c.ask(execute("one", 3), execute("one", 3), execute("one", 3), execute("two", 0), execute("two", 0), SYNC)
    c.ask(close("P", "one"), execute("one"), SYNC)
    c.query("rollback")
    c.ask(bind("one", "p"), execute("one", 3), SYNC)
    c.ask(execute("one", 3), SYNC)
    c.query("begin")
    c.ask(bind("again", "p"), bind("again", "p"), SYNC)
    c.query("rollback")
    c.query("begin")
    c.ask(parse("", "insert into orders select 20000 + n, 1, 1 from generate_series(1, 3) n returning id"), bind("i", ""), execute("i", 1), execute("i", 1), execute("i", 5), SYNC)
    c.query("rollback")
    c.ask(parse("", "select 1/(n - 3) from generate_series(1, 5) n"), bind("", ""), execute("", 1), execute("", 1), execute("", 1), execute("", 1), SYNC)
    c.query("begin; declare sql_cursor cursor for select n from generate_series(1, 5) n")
    c.ask(describe("P", "sql_cursor"), SYNC)
    c.ask(close("P", "sql_cursor"), SYNC)
    c.query("fetch 1 from sql_cursor")
    c.query("rollback")

    title("pipelines")
    c.ask(parse("", "select 1"), bind("", ""), execute(""), SYNC, parse("", "select 1/0"), bind("", ""), execute(""), SYNC, parse("", "select 3"), bind("", ""), execute(""), SYNC, rounds=3)
    c.ask(parse("", "insert into in_extended values (1)"), bind("", ""), execute(""), parse("", "select 1/0"), bind("", ""), execute(""), parse("", "select 3"), bind("", ""), execute(""), SYNC)
    c.query("select count(*) from in_extended")
    c.ask(parse("a", "select $1::int"), bind("", "a", [b"1"]), execute(""), bind("", "a", [b"x"]), execute(""), bind("", "a", [b"2"]), execute(""), SYNC, bind("", "a", [b"3"]), execute(""), SYNC, rounds=2)
    c.ask(parse("", "begin"), bind("", ""), execute(""), SYNC, parse("", "select 1/0"), bind("", ""), execute(""), SYNC, parse("", "select 1"), bind("", ""), execute(""), SYNC,
          parse("", "rollback"), bind("", ""), execute(""), SYNC, rounds=4)
    c.ask(query("select 1"), query("select 1/0"), query("select 2; select 3"), query("selekt"), query(""), rounds=5)
    c.ask(query("prepare by_sql as select $1::int * 2"), bind("", "by_sql", [b"21"]), execute(""), SYNC, query("execute by_sql(4)"), query("deallocate by_sql"), rounds=4)
    c.ask(*[message for n in range(500) for message in (parse("", f"select {n}"), bind("", ""), execute(""))], SYNC)

    title("cached plans and forgotten statements")
    c.query("create table changing (a int)")
    c.ask(parse("plan", "select * from changing"), describe("S", "plan"), SYNC)
    c.query("alter table changing add b text")
    c.ask(bind("", "plan"), execute(""), SYNC)
    c.ask(describe("S", "plan"), SYNC)
    c.query("alter table changing drop b")
    c.ask(bind("", "plan"), describe("P", ""), execute(""), SYNC)
    c.query("drop table changing")
    c.ask(bind("", "plan"), execute(""), SYNC)
    c.query("deallocate plan")
    c.ask(bind("", "plan"), execute(""), SYNC)
    c.query("deallocate plan")
    c.ask(parse("kept", "select 1"), SYNC)
    c.query("deallocate all")
    c.ask(bind("", "kept"), SYNC)
    c.ask(parse("kept", "select 1"), SYNC)
    c.query("discard all")
    c.ask(bind("", "kept"), SYNC)
    c.ask(parse("", "select 7"), SYNC)
    c.ask(bind("", ""), execute(""), SYNC)
    c.query("select 8")
    c.ask(bind("", ""), execute(""), SYNC)
    c.ask(parse("z" * 63, "select 1"), bind("p" * 63, "z" * 63), execute("p" * 63), close("S", "z" * 63), SYNC)

    title("a statement that starts a transaction in a pipeline")
    c.ask(parse("", "vacuum customers"), bind("", ""), execute(""), parse("", "select 1"), bind("", ""), execute(""), SYNC)
    c.ask(parse("", "select 1"), bind("", ""), execute(""), parse("", "vacuum customers"), bind("", ""), execute(""), SYNC)
    c.ask(parse("", "savepoint s"), bind("", ""), execute(""), SYNC)
    c.ask(parse("", "commit"), bind("", ""), execute(""), SYNC)


def errors(c):
    title("errors and notices")
    c.query("""
        create function shout(level text) returns text language plpgsql as $$
        begin
            if level = 'all' then
                raise exception using message = 'the message', detail = 'the detail', hint = 'the hint', errcode = 'P0042',
                    column = 'the column', constraint = 'the constraint', datatype = 'the type', table = 'the table', schema = 'the schema';
            elsif level = 'sql' then
                execute 'select 1/0 from customers';
            elsif level = 'syntax' then
                execute 'select from where';
            end if;
            raise debug 'debug'; raise log 'log'; raise info 'info'; raise notice 'notice' using hint = 'a hint', detail = 'a detail';
            raise warning 'warning %', level using errcode = '01008';
            return level;
        end $$""")
    c.query("create function outer_of(level text) returns text language sql as 'select shout(level)'")
    for level in ("plain", "all", "sql", "syntax"):
        c.query(f"select outer_of('{level}')")
    for setting in ("debug1", "log", "error", "notice"):
        c.query(f"set client_min_messages = {setting}")
        c.query("select shout('at a level')")
    c.query("create table strict (a int primary key, b int not null check (b > 0), c int references customers deferrable initially deferred, d positive, unique (b))")
    for text in ["insert into strict values (1, null)", "insert into strict values (1, -1)", "insert into strict values (1, 1, 1, -1)", "insert into strict values (1, 1), (1, 2)",
                 "insert into strict values (1, 1, 100000)", "begin; insert into strict values (1, 1, 100000); commit", "select * from no_such_table", "select no_such_function(1)",
                 "select nope from customers", "select 'x'::int", "select 9999999999::int", "select 'x'::mood", "selekt 1", "select 1 from", "select $1",
                 "drop table if exists no_such_table", "drop table if exists a.b", "create table strict (a int)", "create table if not exists strict (a int)", "alter table strict add check (a < 0), alter nothing type int",
                 "select 1 + 'a'", "select '\\xzz'::bytea", "select '{\"a\": }'::json", "select '2026-13-01'::date", "select (select 1 union select 2)",
                 "set no_such_setting = 1", "set work_mem = 'x'", "set extra.setting = 'custom'", "show extra.setting", "commit", "rollback", "begin; begin; commit",
                 "savepoint s", "set local work_mem = '4MB'", "lock customers in nonsense mode", "grant select on customers to nobody_there", "set role postgres",
                 "set session authorization postgres", "create role other", "alter system set work_mem = '1MB'", "copy customers to '/tmp/x'", "select pg_read_file('/etc/passwd')", "load 'no_such_library'",
                 "select set_config('work_mem', '5MB', false), current_setting('work_mem')", "select pg_cancel_backend(1)", "listen a; unlisten a; unlisten *",
                 "create table t_with_a_name_that_is_longer_than_sixty_three_bytes_and_is_cut_by_the_server (a int)", "select e'\\u00zz'", "select U&'\\+zzzz'", "select 1 where 'a' similar to '('",
                 "analyze customers, no_such_table", "reindex table customers", "select pg_notify('channel', repeat('x', 9000))", "execute no_such_statement", "deallocate no_such_statement"]:
        c.query(text)
    c.query("drop table strict; drop function outer_of(text), shout(text)")
    c.query("set lc_messages = 'C'; select 1/0")


def transactions(c):
    title("transactions")
    for text in ["begin", "select 1", "savepoint a", "select 1/0", "select 1", "savepoint b", "rollback to a", "release a", "commit and chain", "select 1/0", "commit", "select 1",
                 "begin isolation level serializable read only deferrable", "insert into in_extended values (1)", "rollback and chain", "show transaction_isolation", "abort", "start transaction; select 1", "end",
                 "begin; select 1/0", "select 1; commit", "rollback", "select 1; begin; select 2", "select 3; rollback; select 4", "prepare transaction 'two-phase'", "begin; create table prepared (a int); prepare transaction 'two-phase'",
                 "commit prepared 'two-phase'", "rollback prepared 'none'", "begin; set local statement_timeout = 12345; show statement_timeout; commit; show statement_timeout",
                 "begin; set work_mem = '7MB'; rollback; show work_mem"]:
        c.query(text)
    c.ask(query("begin"), query("insert into in_extended values (5)"), query("selekt"), query("select 1"), query("commit"), query("select count(*) from in_extended"), rounds=6)

    title("cursors")
    for text in ["begin", "declare c scroll cursor for select n, n * n from generate_series(1, 20) n", "fetch 2 from c", "fetch backward 1 from c", "fetch absolute 10 from c", "move 3 in c", "fetch relative -1 from c",
                 "fetch last from c", "fetch 1 from c", "close c", "close c", "rollback", "begin", "declare b binary cursor for select 1::int4, 'x'::text, 1.5::numeric", "fetch all from b", "commit",
                 "declare h cursor with hold for select n from generate_series(1, 5) n", "fetch 2 from h", "fetch all from h", "close all",
                 "begin; declare u cursor for select * from in_extended for update; fetch 1 from u; update in_extended set a = 2 where current of u; commit", "rollback"]:
        c.query(text)


def copies(c):
    title("copy")
    c.query("create table copied (a int, b text, c bytea)")
    data = b"1\tone\t\\\\x00\n2\t\\N\t\\N\n"
    c.ask(query("copy copied from stdin"), last="GZ")
    c.ask(copy_data(data[:5]), copy_data(data[5:]), copy_data(b"3\tthree\t\\N"), copy_data(b"\n\\.\n"), COPY_DONE)
    for options in ("", "(format csv, header, force_quote *)", "(format binary)", "(delimiter ',', null 'nothing')"):
        c.query(f"copy copied to stdout {options}")
    c.ask(query("copy copied (b, a) from stdin (format csv, header)"), last="GZ")
    c.ask(copy_data(b'b,a\n"with ""quotes"", and\nlines",4\n,5\n'), COPY_DONE)
    c.ask(query("copy copied from stdin"), last="GZ")
    c.ask(copy_data(b"not a number\tx\t\\N\n"), COPY_DONE)
    c.ask(query("copy copied from stdin"), last="GZ")
    c.ask(copy_data(b"1\ttoo few\n"), copy_data(b"2\tmore\n"), COPY_DONE)
    c.ask(query("copy copied from stdin"), last="GZ")
    c.ask(copy_data(b"7\tseven\t\\N\n"), copy_fail("given up"))
    c.ask(query("copy copied from stdin"), last="GZ")
    c.ask(COPY_DONE)
    c.ask(query("copy copied from stdin (format binary)"), last="GZ")
    c.ask(copy_data(b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0) + struct.pack("!hiiii", 3, 4, 8, -1, -1) + struct.pack("!h", -1)), COPY_DONE)
    c.ask(query("copy copied from stdin (format binary)"), last="GZ")
    c.ask(copy_data(b"garbage garbage garbage"), COPY_DONE)
    c.ask(query("copy copied from stdin; select 'after'; copy copied to stdout"), last="GZ")
    c.ask(copy_data(b"9\tnine\t\\N\n"), COPY_DONE)
    c.ask(query("select 'before'; copy copied from stdin; select 'never'"), last="GZ")
    c.ask(copy_fail("given up"))
    c.query("copy (select n, repeat('x', n) from generate_series(1, 300) n) to stdout")
    c.query("copy (select 1/(n - 3) from generate_series(1, 5) n) to stdout")
    c.query("copy no_such_table from stdin")
    c.query("copy copied from stdin (format nonsense)")
    c.ask(parse("", "copy copied to stdout"), describe("S", ""), bind("", ""), describe("P", ""), execute(""), SYNC)
    c.ask(parse("", "copy copied (a) from stdin"), bind("", ""), execute(""), FLUSH, last="GZ")
    c.ask(copy_data(b"11\n"), COPY_DONE, SYNC)
    c.ask(parse("", "copy copied (a) from stdin"), bind("", ""), execute(""), FLUSH, last="GZ")
    c.ask(copy_data(b"x\n"), COPY_DONE, SYNC)
    c.ask(parse("", "copy copied (a) from stdin"), bind("", ""), execute(""), FLUSH, last="GZ")
    c.ask(copy_fail("given up"), SYNC)
    c.ask(query("copy copied (a) from stdin"), last="GZ")
    c.ask(*[copy_data(b"".join(b"%d\n" % (n * 1000 + m) for m in range(1000))) for n in range(100)], COPY_DONE)
    c.query("select count(*), sum(a) from copied")
    c.ask(query("copy copied (b) from stdin"), last="GZ")
    c.ask(copy_data(b"y" * 3_000_000 + b"\n"), COPY_DONE)
    c.query("copy (select b from copied where length(b) > 1000000) to stdout")
    c.query("select 1")


def functions(c):
    title("function calls")
    c.ask(function_call(1397, [struct.pack("!i", -5)]))          # abs(int4)
    c.ask(function_call(1397, [b"-5"], formats=[0], result=0))
    c.ask(function_call(1397, [None]))
    c.ask(function_call(1397, [b"\0"]))
    c.ask(function_call(177, [struct.pack("!i", 1), struct.pack("!i", 2)], formats=[1, 1]))  # int4pl
    c.ask(function_call(154, [struct.pack("!i", 1), struct.pack("!i", 0)], formats=[]))
    c.ask(function_call(154, [b"1", b"0"], formats=[]))          # int4div
    c.ask(function_call(1, []))
    c.query("begin")
    c.ask(function_call(957, [struct.pack("!i", 4711)]))         # lo_create
    c.ask(function_call(952, [struct.pack("!i", 4711), struct.pack("!i", 0x60000)]))  # lo_open
    c.ask(function_call(955, [struct.pack("!i", 0), bytes(range(256)) * 100]))  # lowrite
    c.ask(function_call(956, [struct.pack("!i", 0), struct.pack("!i", 0), struct.pack("!i", 0)]))  # lo_lseek
    c.ask(function_call(954, [struct.pack("!i", 0), struct.pack("!i", 300)]))  # loread
    c.ask(function_call(953, [struct.pack("!i", 0)]))            # lo_close
    c.ask(function_call(953, [struct.pack("!i", 9)]))
    c.ask(function_call(953, [struct.pack("!i", 0)]))
    c.query("rollback")


def settings(c):
    title("settings")
    for text in ["set timezone = 'Asia/Tokyo'", "set datestyle = 'SQL, DMY'", "set intervalstyle = postgres_verbose", "reset timezone", "set local datestyle = iso", "begin; set timezone = 'UTC'; rollback",
                 "begin; set local timezone = 'Europe/Berlin'; select 1; commit", "reset all", "show datestyle", "set client_encoding = 'UTF8'", "set names 'utf8'", "show client_encoding", "show server_encoding",
                 "set standard_conforming_strings = on", "show is_superuser", "show session_authorization", "select current_user, session_user", "show server_version", "show transaction_read_only", "set search_path = public, pg_temp",
                 "show search_path", "set search_path to default", "select current_schemas(true)", "set time zone interval '-08:00' hour to minute", "set time zone local", "discard plans; ", "discard sequences", "discard temp",
                 "set session characteristics as transaction isolation level repeatable read", "show default_transaction_isolation", "set session characteristics as transaction isolation level read committed",
                 "set default_transaction_read_only = on", "show default_transaction_read_only", "create table refused (a int)", "reset default_transaction_read_only", "set application_name = 'renamed'", "show application_name", "reset application_name",
                 "select set_config('timezone', 'UTC', false)", "reset timezone; reset all", "discard all", "select set_config('datestyle', 'ISO, DMY', true)", "show timezone"]:
        c.query(text)
    c.ask(parse("", "set timezone = 'Asia/Tokyo'"), bind("", ""), execute(""), SYNC)
    c.ask(parse("", "reset all"), bind("", ""), execute(""), parse("", "show timezone"), bind("", ""), execute(""), SYNC)
    c.ask(parse("", "discard all"), bind("", ""), execute(""), SYNC)
    c.ask(query("reset all"), query("show datestyle"), rounds=2)
    c.query("select name, setting, source from pg_settings where name in ('timezone', 'DateStyle', 'search_path', 'work_mem', 'statement_timeout', 'client_min_messages', 'extra_float_digits', 'default_transaction_read_only') order by name")


def notifications(c):
    title("notifications")
    other = Connection("other ")
    c.query("listen news")
    c.query("listen \"with space\"")
    c.query("notify news, 'from oneself'")
    c.query("notify news; notify news; notify \"with space\", 'quoted'")
    c.query("begin; notify news, 'in a transaction'; select 1")
    c.query("commit")
    c.query("begin; notify news, 'never'; rollback")
    other.query("notify news, 'from another'")
    c.until("A")
    c.query("begin")
    other.query("select pg_notify('news', 'while in a transaction')")
    c.query("select 1")
    c.query("commit")
    other.query(f"select pg_notify('news', repeat('x', 7999))")
    c.until("A")
    c.ask(parse("", "select pg_notify('news', 'extended')"), bind("", ""), execute(""), SYNC)
    c.query("select * from pg_listening_channels() order by 1")
    c.query("unlisten news")
    c.query("notify news, 'unheard'")
    c.query("unlisten *")
    c.query("select pg_backend_pid() > 0")
    other.close()


def interruptions(c):
    title("timeouts")
    c.query("set statement_timeout = 50")
    c.query("select pg_sleep(30)")
    c.ask(parse("", "select pg_sleep(30)"), bind("", ""), execute(""), parse("", "select 1"), bind("", ""), execute(""), SYNC)
    c.query("begin; select pg_sleep(30)")
    c.query("rollback")
    c.query("reset statement_timeout")
    c.query("set lock_timeout = 50")
    other = Connection("other ")
    other.query("begin; lock table customers")
    c.query("select count(*) from customers")
    other.query("rollback")
    c.query("select count(*) from customers")
    c.query("reset lock_timeout")
    other.query("set idle_in_transaction_session_timeout = 50; begin")
    other.until("never")
    last = Connection("last ")
    last.query("set idle_session_timeout = 50")
    last.until("never")


def oddities(c):
    title("notices of the lowest levels")
    for text in ["set client_min_messages = debug5", "select count(*) from customers", "set search_path = public, pg_temp", "select count(*) from customers", "reset application_name", "reset all"]:
        c.query(text)
    c.query("set client_min_messages = debug5")
    c.ask(parse("", "reset application_name"), bind("", ""), execute(""), parse("", "select 1"), bind("", ""), execute(""), SYNC)
    c.query("discard all")

    title("legal and odd")
    c.ask(parse("", "select 1"), bind("", ""), execute(""), query("select 2"), SYNC, rounds=2)
    c.ask(parse("", "select 1/0"), bind("", ""), execute(""), query("select 2"), describe("S", "x"), SYNC)
    c.ask(parse("", "select 1"), bind("", ""), execute(""), function_call(1397, [b"\0\0\0\1"]), SYNC, rounds=2)
    c.ask(query("begin"), query("select 1/0"), function_call(1397, [b"\0\0\0\1"]), parse("", "rollback"), bind("", ""), execute(""), SYNC, rounds=4)
    c.ask(parse("n", "select 1"), parse("n", "select 2"), bind("", "n"), execute(""), SYNC, bind("", "n"), execute(""), SYNC, rounds=2)
    c.ask(parse("", "select n from generate_series(1,3) n"), bind("p", ""), execute("p", 1), SYNC, execute("p", 1), SYNC, rounds=2)
    # More than the appliance keeps unanswered.
    c.ask(*[message for n in range(2000) for message in (parse("", f"select {n}"), bind("", ""), execute(""))], SYNC)
    c.ask(parse("", "copy customers to stdout"), bind("", ""), execute(""), parse("", "select 1"), bind("", ""), execute(""), SYNC)
    c.ask(parse("", "create temp table t (a int)"), bind("", ""), execute(""), SYNC)
    c.ask(parse("", "copy t from stdin"), bind("", ""), execute(""), SYNC, last="G")
    c.ask(copy_data(b"1\n"), COPY_DONE, SYNC)
    c.ask(query("copy t from stdin"), copy_data(b"3\n"), COPY_DONE, query("select * from t"), rounds=2)
    c.ask(query("copy nothing from stdin"), copy_data(b"3\n"), COPY_DONE, query("select * from t"), rounds=2)
    c.ask(query("copy t from stdin"), copy_data(b"x\n"), copy_data(b"y\n"), COPY_DONE, query("select 7"), rounds=2)
    c.ask(query("set statement_timeout = 100; select pg_sleep(10); select 1"))
    c.query("select 1")
    c.ask(parse("", "begin"), bind("", ""), execute(""), parse("", "select 1/0"), bind("", ""), execute(""), SYNC)
    c.ask(parse("", "select 1"), SYNC)
    c.ask(parse("", "commit"), SYNC)
    c.ask(bind("", ""), execute(""), SYNC)
    c.ask(parse("", "begin; commit"), SYNC)
    c.ask(parse("", "start transaction read only"), bind("", ""), execute(""), parse("", "show transaction_read_only"), bind("", ""), execute(""), parse("", "commit"), bind("", ""), execute(""), parse("", "show transaction_read_only"), bind("", ""), execute(""), SYNC)
    c.query("explain (analyze, costs off, timing off, summary off) select 1")
    c.query("create table parted (a int) partition by list (a); create table parted_1 partition of parted for values in (1); insert into parted values (2)")
    c.query("select * from customers where id = any(array[1,2]) for update nowait")
    c.query("do $$ declare c refcursor := 'opened'; begin open c for select 1; end $$; fetch opened")
    c.query("begin; do $$ declare c refcursor := 'opened'; begin open c for select 1; end $$; fetch opened; commit")
    c.query("create procedure commits() language plpgsql as $$ begin commit; raise notice 'between'; rollback; end $$; ")
    c.query("call commits()")
    c.ask(parse("", "call commits()"), bind("", ""), execute(""), SYNC)


def logins():
    title("logins")
    for parameters in ({"options": "-c work_mem=9MB -c timezone=Asia/Tokyo"}, {"client_encoding": "UTF8", "DateStyle": "German", "extra_float_digits": "2"}, {"application_name": "named"},
                       {"search_path": "pg_catalog", "statement_timeout": "5000"}, {"options": "--intervalstyle=iso_8601 -cbytea_output=escape"}):
        connection = Connection("login ", **parameters)
        connection.query("select current_setting('work_mem'), current_setting('timezone'), current_setting('datestyle'), current_setting('extra_float_digits'), current_setting('search_path'), current_setting('statement_timeout'), current_setting('intervalstyle'), current_setting('bytea_output')")
        connection.query("reset all")
        connection.query("select current_setting('work_mem'), current_setting('timezone'), current_setting('datestyle')")
        connection.close()


def main():
    title("start")
    connection = Connection()
    for part in (types, shapes, extended, errors, transactions, copies, functions, settings, notifications, interruptions, oddities):
        part(connection)
    connection.close()
    logins()


main()
