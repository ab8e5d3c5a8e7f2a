create type address as (street text, zip int);
create extension dblink;
create domain card as text;
create table people (
    id int primary key, name text not null, card text, pin int, small smallint, big bigint, salary numeric(20, 2),
    ratio float8, rough float4, born date, seen timestamptz, at timestamp, key uuid, blob bytea, doc json, profile jsonb,
    home address, phones text[], pins int[], host inet, code varchar(40), fixed char(20), flag boolean, typed card
);
insert into people select
    n, 'visible-' || n, 'ZqXcanary' || n, 731946285, 18765, 7319462857319462857, 7319462850.25,
    73.1946285731, 73.19463, '1887-06-05', '1887-06-05 11:22:33+00', '1887-06-05 11:22:33',
    'feedface-dead-4bee-8bad-f00dcafe0001', 'ZqXcanary', '{"in": {"card": "ZqXcanary"}}', '{"in": {"card": "ZqXcanary"}}',
    '("ZqXcanary street",731946285)', '{ZqXcanary-a,ZqXcanary-b}', '{731946285}', '203.0.113.77', 'ZqXcanary', 'ZqXcanary',
    true, 'ZqXcanary'
from generate_series(1, 3) n;
create table orders_of (id int primary key, person int references people, total int);
insert into orders_of select n, 1 + n % 3, n from generate_series(1, 6) n;
create table letters (id int primary key, body text, doc jsonb);
insert into letters values
    (1, 'card 4012-8888-8888-1881, thanks', '{"card": "4012888888881881"}'),
    (2, 'write to zqx.leak@example.com', '{"mail": ["zqx.leak@example.com"]}'),
    (3, 'ssn 536-90-4399', '{"ssn": "536-90-4399"}'),
    (4, 'iban DE89 3704 0044 0532 0130 00', '{"iban": "DE89370400440532013000"}'),
    (5, 'visible-letter about order 4012888888881882', '{}');
create view people_view as select id, name, card as number from people;
create view people_above as select number as digits, name from people_view;
create materialized view people_copy as select name, card as kept from people;
create table vip () inherits (people);
create table plain (id int, text text);
create function own_upper(text) returns text language sql immutable as 'select upper($1)';
create function card_of(int) returns text language sql as 'select card from people where id = $1';
do $$ declare t record; begin
    for t in select c.oid::regclass as name from pg_class c where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'm', 'p')
        loop execute format('alter table %s owner to svc', t.name); end loop;
end $$;
analyze;
