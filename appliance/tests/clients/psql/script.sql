-- What psql sees of a database: prints the same through the appliance as directly.
\echo '#' psql :VERSION_NAME
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
\echo == types
\set which_types 'null::int, true, 1::int2, 2::int4, 3::int8, 1.5::float4, -0.0::float8, 1e40::numeric, ''NaN''::numeric, ''\\x00ff''::bytea, date ''infinity'', timestamptz ''2026-11-26 12:00+00'', interval ''1 mon -2 days'', ''{1,null}''::int[], row(1, ''a''), ''[1,5)''::int4range, ''{"a": 1}''::jsonb, ''10.0.0.1''::inet, ''a b''::tsvector'
select :which_types;
\pset format csv
select :which_types;
\pset format unaligned
select 'quoted "text"', E'with\nlines';
\pset format aligned
\x on
select id, name from customers order by id limit 2;
\x off

select 1 as number, 'x' as text, null::date as day \gdesc
\pset null '(null)'
select null;
select;
select from customers limit 3;
;
\echo == shell of errors
select 1/0;
\errverbose
\set SHOW_CONTEXT always
do $$ begin perform 1/0; end $$;
\set VERBOSITY sqlstate
select 1/0;
\set VERBOSITY terse
insert into orders values (1, 1, 1);
\set VERBOSITY verbose
\echo :ERROR :SQLSTATE :ROW_COUNT :LAST_ERROR_MESSAGE :LAST_ERROR_SQLSTATE
select 1;
\echo :ERROR :SQLSTATE :ROW_COUNT
\echo == transactions by psql
\set ON_ERROR_ROLLBACK on
begin;
create table in_block (a int);
selekt;
insert into in_block values (1);
commit;
select * from in_block;
\unset ON_ERROR_ROLLBACK
\set AUTOCOMMIT off
insert into in_block values (2);
rollback;
insert into in_block values (3);
commit;
\set AUTOCOMMIT on
select * from in_block order by a;
\echo == large objects
\lo_import script.sql 'the script'
\set script_oid :LASTOID
select length(lo_get(:script_oid)) > 1000;
\lo_list
\lo_export :script_oid /dev/null
\lo_unlink :script_oid
\lo_unlink 4711
\echo == notifications
listen news;
notify news, 'payload';
select 1;
unlisten *;
\echo == catalogue
\d+ orders
\di
\dt+ public.*
\dn
\df public.*
\dT public.*
\dx
\du
\dp customers
\l orders
\dconfig work_mem
\sf pg_catalog.lower(text)
\d no_such_table
\echo == copy again
copy (select n, repeat('x', n) from generate_series(1, 3) n) to stdout (format csv, header);
\copy made (a) from program 'seq 1 3'
\copy (select count(*) from made) to stdout
\echo == versions
select :VERSION_NUM >= 160000 as has_bind, :VERSION_NUM >= 180000 as has_pipeline \gset
\if :has_bind
select $1::int + $2::int \bind 1 2 \g
select $1::int \bind x \g
select 'no parameters' \bind \g
\endif
\if :has_pipeline
\startpipeline
select 1 \bind \sendpipeline
select $1::int / 0 \bind 7 \sendpipeline
select 3 \bind \sendpipeline
\syncpipeline
select 4 \bind \sendpipeline
\flushrequest
\getresults
\endpipeline
select $1 || 'x' \parse named
\bind_named named y \g
\bind_named named z \g
\close_prepared named
\bind_named named y \g
\close_prepared nothing
\endif
\echo == settings again
show server_version;
show is_superuser;
show session_authorization;
set timezone = 'Asia/Tokyo';
select timestamptz '2026-11-26 12:00+00';
set datestyle = 'German';
select date '2026-11-26';
set client_encoding = 'UTF8';
\encoding
set application_name = 'renamed';
select current_setting('application_name') \g (format=unaligned)
discard all;
show timezone;
select current_user, session_user, current_database(), current_schema;
set role postgres;
\c
select current_database();
\echo == the end
\q
