-- What is protected: the rows of `vault` from everybody's eyes, those of `ledger` from change.
create table vault (id int primary key, secret text not null);
insert into vault select 915000000 + n, 'ZqXcanary' || n from generate_series(1, 20) n;
create table customers (id int primary key, name text not null);
insert into customers select n, 'customer ' || n from generate_series(1, 20) n;
create table orders (id int primary key, customer int references customers, total numeric);
insert into orders select n, 1 + n % 20, n from generate_series(1, 40) n;
create table ledger (
    id int primary key, amount int not null,
    order_id int references orders on delete cascade on update cascade
);
insert into ledger select n, n * 100, n from generate_series(1, 20) n;
create table notes (id int primary key, text text);
insert into notes select n, 'note ' || n from generate_series(1, 5) n;
create schema own authorization svc;

-- Leaves a file whatever becomes of the transaction, also of one that is read-only.
create table places (files text);
insert into places values ('{files}');
create function trap() returns boolean language plpgsql as $$
begin
    execute format('copy (select 1) to %L', (select files from public.places) || '/sprung');
    return true;
end $$;
create function trap(text) returns boolean language plpgsql immutable as 'begin return public.trap(); end';
create function trap(int, int) returns boolean language plpgsql as 'begin return public.trap(); end';
create function peek() returns text language sql security definer as 'select min(secret) from public.vault';
create function spring_of(notes) returns boolean language plpgsql as 'begin return public.trap(); end';
create procedure spring() language plpgsql as 'begin perform public.trap(); end';

-- Ways to the protected tables under names that no rule mentions.
create view open_view as select id, secret as name from vault;
create view view_over_view as select name from open_view;
create materialized view open_copy as select secret from vault;
create view ledger_view as select * from ledger;
create view secret_of_peek as select peek() as name;
create table events (id int, secret text);
create table vault_child () inherits (events);
insert into vault_child select * from vault;
create table vault_parted (id int, secret text) partition by range (id);
create table shard_1 partition of vault_parted default;
insert into vault_parted select * from vault;
create table ledger_child () inherits (ledger);
insert into ledger_child select 1000 + id, amount, order_id from ledger where id < 4;

-- What runs because of a statement that does not name it.
create table watched (id int, text text);
create function write_ledger() returns trigger language plpgsql as
    'begin update public.ledger set amount = 0; return new; end';
create trigger watch before insert on watched for each row execute function write_ledger();
create table ruled (id int);
create rule also as on insert to ruled do also delete from ledger;
create table checked (id int, text text check (trap(text)));
create table defaulted (id int, sprung boolean default trap());
create table computed (id int, text text, sprung boolean generated always as (trap(text)) stored);
create domain trapped as text check (trap(value));
create table domained (id int, text trapped);
create table indexed (id int, text text);
create index indexed_trap on indexed (trap(text));
create table secured (id int);
insert into secured values (1);
create table linked (id int primary key);
insert into linked values (1);
create table ledger_entries (id int primary key, linked int references linked on update cascade on delete cascade);
insert into ledger_entries values (1, 1);
create operator === (leftarg = int, rightarg = int, function = trap);
create type parcel as (weight int);
create function to_parcel(text) returns parcel language plpgsql as
    'begin perform public.trap(); return row(1)::public.parcel; end';
create cast (text as parcel) with function to_parcel(text);
create function trap_state(boolean, int) returns boolean language plpgsql as 'begin return public.trap(); end';
create aggregate trap_all(int) (sfunc = trap_state, stype = boolean);
create view sprung_view as select trap() as sprung;

create extension dblink;
create extension file_fdw;
create server files foreign data wrapper file_fdw;
select lo_from_bytea(4242, 'ZqXcanary in a large object');
-- As a tool that prepared a transaction's worth of texts would leave it.
create table texts (id int, text text);
insert into texts values (1, 'delete from ledger'), (2, 'select secret from vault');
do $$ declare t record; begin
    for t in select c.oid::regclass as name from pg_class c where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'm', 'p')
        loop execute format('alter table %s owner to svc', t.name); end loop;
end $$;
analyze;

-- Puts the rows of all tables back.
create schema kept;
do $$ declare t record; begin
    for t in select relname from pg_class c where relnamespace = 'public'::regnamespace and relkind = 'r'
        loop execute format('create table kept.%I as select * from only public.%I', t.relname, t.relname); end loop;
end $$;
create function kept.restore() returns void language plpgsql set session_replication_role = replica as $$
declare t record; begin
    for t in select c.relname, (select string_agg(attname, ', ') from pg_attribute a where attrelid = k.oid and attnum > 0
            and (select attgenerated from pg_attribute p where p.attrelid = c.oid and p.attname = a.attname) = '') as columns
        from pg_class k join pg_class c using (relname)
        where k.relnamespace = 'kept'::regnamespace and c.relnamespace = 'public'::regnamespace and k.relname <> 'places'
        loop execute format('delete from only public.%1$I; insert into public.%1$I (%2$s) select %2$s from kept.%1$I', t.relname, t.columns); end loop;
end $$;
