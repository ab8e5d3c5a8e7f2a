-- What psql sees of a database: prints the same through the appliance as directly.
\set VERBOSITY verbose
\set SHOW_CONTEXT never
\pset pager off
\echo == simple
select 1, 'text', null, 1.50::numeric, date '2026-11-22';
select id, name from customers order by id limit 3;
select 1/0;
selekt;
select 1 \; select 2 \; select 3;
\echo == describe
\d customers
\dt public.*
\echo == prepared
prepare by_id as select name from customers where id = $1;
execute by_id(1);
execute by_id(2);
execute by_id('x');
deallocate by_id;
execute by_id(3);
\echo == transactions
begin;
create table made (a int, b text);
insert into made values (1, 'kept');
savepoint s;
select 1/0;
select 1;
rollback to s;
commit;
select * from made;
begin isolation level serializable read only;
insert into made values (2, 'x');
rollback;
\echo == copy
copy made from stdin;
10	ten
11	eleven
\.
copy made from stdin (format csv);
12,"twelve, or a dozen"
13,
\.
copy made from stdin;
not a number	x
\.
copy made to stdout;
\copy (select a from made order by a) to stdout
copy made to stdout \; select 'after the copy';
\echo == cursors
begin;
declare c scroll cursor for select id from orders order by id;
fetch 3 from c;
move forward 10 in c;
fetch backward 2 from c;
close c;
commit;
\set FETCH_COUNT 100
\o /dev/null
select id from orders;
\o
\unset FETCH_COUNT
\echo == notices
do $$ begin raise notice 'hello'; raise warning 'careful'; end $$;
\echo == errors
insert into orders values (1, 1, 1);
insert into orders values (5000, 5000, 1);
select * from no_such_table;
do $$ begin raise exception 'ours' using errcode = 'P0042', hint = 'a hint', detail = 'a detail'; end $$;
\echo == large
select length(repeat('x', 5000000));
\gset big_
\echo :big_length
\echo == settings
set statement_timeout = 100;
select pg_sleep(60);
reset statement_timeout;
show statement_timeout;
set work_mem = '5MB';
show work_mem;
\echo == variables
select count(*) as made from made \gset
\echo :made
select format('select %L', a) from made order by a limit 2 \gexec
drop function if exists none();
\echo == crosstab and watch
select * from (values (1, 'a', 2), (2, 'b', 3)) v(x, y, z) \crosstabview
