-- Each row is one thing that no attack may change, and what it is now.
select 'rows', string_agg(name || ' ' || hash, ', ' order by name) from (
    select 'vault', (select count(*) || '/' || sum(hashtext(v::text)) from vault v)
    union all select 'customers', (select count(*) || '/' || sum(hashtext(v::text)) from customers v)
    union all select 'orders', (select count(*) || '/' || sum(hashtext(v::text)) from orders v)
    union all select 'ledger', (select count(*) || '/' || sum(hashtext(v::text)) from ledger v)
    union all select 'ledger_entries', (select count(*) || '/' || sum(hashtext(v::text)) from ledger_entries v)
) tables(name, hash)
union all
select 'relations', md5(string_agg(concat_ws(' ', oid::regclass, relkind, relowner, relacl, reloptions, relrowsecurity, relhasrules, relhastriggers, relnatts), ',' order by oid::regclass::text))
    from pg_class where relnamespace = 'public'::regnamespace
union all
select 'columns', md5(string_agg(concat_ws(' ', attrelid::regclass, attname, atttypid, attisdropped), ',' order by attrelid, attnum))
    from pg_attribute where attrelid in (select oid from pg_class where relnamespace = 'public'::regnamespace)
union all
select 'functions', md5(string_agg(concat_ws(' ', proname, proargtypes, prosrc, proowner, proconfig), ',' order by oid))
    from pg_proc where pronamespace in ('public'::regnamespace, 'pg_catalog'::regnamespace) and oid > 16383
union all
select 'operators', (select count(*)::text from pg_operator where oprnamespace in ('public'::regnamespace, 'pg_catalog'::regnamespace))
union all
select 'triggers and rules', (select count(*) from pg_trigger t join pg_class c on c.oid = tgrelid where relnamespace = 'public'::regnamespace)
    || ' ' || (select count(*) from pg_rewrite r join pg_class c on c.oid = ev_class where relnamespace = 'public'::regnamespace)
    || ' ' || (select count(*) from pg_event_trigger) || ' ' || (select count(*) from pg_policy)
    || ' ' || (select count(*) from pg_inherits where inhparent in (select oid from pg_class where relnamespace = 'public'::regnamespace)
        or inhrelid in (select oid from pg_class where relnamespace = 'public'::regnamespace))
    || ' ' || (select count(*) from pg_statistic_ext)
union all
select 'servers, extensions, publications', (select count(*) from pg_foreign_server) || ' ' || (select count(*) from pg_extension)
    || ' ' || (select count(*) from pg_publication) || ' ' || (select count(*) from pg_subscription)
union all
select 'roles', md5(string_agg(concat_ws(' ', rolname, rolsuper, rolcreaterole, rolreplication, rolcanlogin, rolpassword, rolvaliduntil), ',' order by oid))
    || ' ' || (select count(*) from pg_auth_members) from pg_authid
union all
select 'role settings', md5(coalesce(string_agg(setdatabase || ' ' || setrole || ' ' || setconfig::text, ',' order by setdatabase, setrole), '')) from pg_db_role_setting
    where setdatabase in (0, (select oid from pg_database where datname = current_database()))
union all
select 'databases', string_agg(datname, ' ' order by datname) from pg_database where datname not in ('direct', 'orders')
union all
select 'server settings', md5(coalesce(string_agg(name || setting, ',' order by name), '')) from pg_file_settings
union all
select 'large objects', coalesce(sum(hashtext(loid || data::text)), 0)::text from pg_largeobject
union all
select 'slots', count(*)::text from pg_replication_slots
union all
select 'advisory locks', count(*)::text from pg_locks where locktype = 'advisory'
union all
select 'locked tables', count(*)::text from pg_locks
    where locktype = 'relation' and mode = 'AccessExclusiveLock' and relation in (select oid from pg_class where relnamespace = 'public'::regnamespace)
union all
select 'the victim', count(*)::text from pg_stat_activity where application_name = 'victim'
union all
select 'forged sessions', count(*)::text from pg_stat_activity where application_name like 'forged%'
union all
select 'forged notes', count(*)::text from notes where text like 'forged%'
union all
select 'prepared transactions', count(*)::text from pg_prepared_xacts
