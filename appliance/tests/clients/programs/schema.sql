-- One of each kind of thing that pg_dump knows and an ordinary owner can make.
create schema app;
create type app.mood as enum ('sad', 'happy');
create type app.pair as (a int, b text);
create domain app.small as int default 3 check (value between 0 and 9);
create type app.spans as range (subtype = float8);
create sequence app.counter start 100 increment 5 cycle maxvalue 1000000;
create table app.parent (id int generated always as identity primary key, label text not null collate "C", mood app.mood default 'sad', size app.small, pair app.pair,
    price numeric(10, 2) check (price >= 0), twice numeric generated always as (price * 2) stored, tags text[] default '{}', made timestamptz default '2026-11-26 12:00+00', data bytea, span app.spans, unique (label, mood));
create table app.child (id bigint default nextval('app.counter') primary key, parent int references app.parent on delete cascade deferrable initially deferred, note xml, facts jsonb) with (fillfactor = 70);
create table app.inherited (more text) inherits (app.parent);
create table app.parted (day date not null, v int) partition by range (day);
create table app.parted_2026 partition of app.parted for values from ('2026-01-01') to ('2027-01-01');
create table app.parted_rest partition of app.parted default;
create unlogged table app.unlogged (a int);
create index on app.child using gin (facts);
create unique index partial on app.parent (lower(label)) where mood = 'happy';
create statistics app.correlated on label, mood from app.parent;
create view app.happy with (security_barrier) as select id, label from app.parent where mood = 'happy' with local check option;
create materialized view app.counted as select mood, count(*) from app.parent group by mood;
create function app.plus(a int, b int default 1) returns int language sql immutable as 'select a + b';
create function app.touch() returns trigger language plpgsql as $$ begin new.note := coalesce(new.note, '<none/>'::xml); return new; end $$;
create procedure app.nothing() language sql as '';
create aggregate app.total (int) (sfunc = app.plus, stype = int, initcond = '0');
create operator app.<+> (leftarg = int, rightarg = int, function = app.plus);
create cast (app.pair as text) with inout;
create trigger touched before insert on app.child for each row execute function app.touch();
create rule no_delete as on delete to app.unlogged do instead nothing;
alter table app.parent enable row level security;
create policy own on app.parent using (true);
comment on table app.parent is 'quoted ''comment'' with "both" and a \ and é世';
comment on column app.parent.label is E'two\nlines';
grant select, insert (a) on app.unlogged to public;
alter default privileges in schema app grant select on tables to public;
insert into app.parent (label, mood, size, pair, price, tags, data, span)
    select E'row\t' || n || E'\\ "q" ''s''', case n % 3 when 0 then 'happy' when 1 then 'sad' end::app.mood, n % 10, row(n, 'b,' || n)::app.pair, n * 1.25, array['x', null, n::text],
        decode(repeat(lpad(to_hex(n % 256), 2, '0'), n % 50), 'hex'), app.spans(n, n + 0.5) from generate_series(1, 2000) n;
insert into app.child (parent, facts) select 1 + n % 2000, jsonb_build_object('n', n, 'deep', array[n, n]) from generate_series(1, 5000) n;
insert into app.inherited (id, label, more) values (9000, 'of the child', 'more');
insert into app.parted select date '2026-06-01' + n, n from generate_series(1, 500) n;
insert into app.unlogged values (1), (null);
refresh materialized view app.counted;
select lo_from_bytea(4711, repeat('large object ', 10000)::bytea);
select lo_put(lo_create(4712), 5, '\x00ff');
comment on large object 4711 is 'a large object';
