SELECT concat_ws(',',
  current_setting('server_version_num'),
  (SELECT sum(hash_record_extended(ROW(oid, nspname, xmin), 0)) FROM pg_namespace
    WHERE nspname !~ '^pg_(toast_)?temp_'),
  (SELECT sum(hash_record_extended(ROW(oid, relname, relnamespace, relkind, relrowsecurity,
      relispartition), 0)) FROM pg_class
    WHERE relpersistence <> 't' AND relkind NOT IN ('t', 'i', 'I')),
  (SELECT sum(hash_record_extended(ROW(a.attrelid, a.attnum, a.xmin), 0)) FROM pg_attribute AS a
    JOIN pg_class AS c ON c.oid = a.attrelid
    WHERE c.relpersistence <> 't' AND c.relkind NOT IN ('t', 'i', 'I') AND a.attnum > 0),
  (SELECT sum(hash_record_extended(ROW(d.oid, d.xmin), 0)) FROM pg_attrdef AS d
    JOIN pg_class AS c ON c.oid = d.adrelid WHERE c.relpersistence <> 't'),
  (SELECT sum(hash_record_extended(ROW(i.indexrelid, i.indisunique, i.indisexclusion), 0))
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid
    WHERE c.relpersistence <> 't' AND c.oid >= 16384),
  (SELECT sum(hash_record_extended(ROW(h.inhrelid, h.inhparent), 0)) FROM pg_inherits AS h
    JOIN pg_class AS c ON c.oid = h.inhrelid WHERE c.relpersistence <> 't'),
  (SELECT sum(hash_record_extended(ROW(r.oid, r.xmin), 0)) FROM pg_rewrite AS r
    JOIN pg_class AS c ON c.oid = r.ev_class WHERE c.relpersistence <> 't'),
  (SELECT sum(hash_record_extended(ROW(t.oid, t.xmin), 0)) FROM pg_trigger AS t
    JOIN pg_class AS c ON c.oid = t.tgrelid WHERE c.relpersistence <> 't'),
  (SELECT sum(hash_record_extended(ROW(n.oid, n.xmin), 0)) FROM pg_constraint AS n
    LEFT JOIN pg_class AS c ON c.oid = n.conrelid WHERE c.relpersistence IS DISTINCT FROM 't'),
  (SELECT sum(hash_record_extended(ROW(p.oid, p.xmin), 0)) FROM pg_policy AS p
    JOIN pg_class AS c ON c.oid = p.polrelid WHERE c.relpersistence <> 't'),
  (SELECT sum(hash_record_extended(ROW(oid, xmin), 0)) FROM pg_proc WHERE oid >= 16384),
  (SELECT sum(hash_record_extended(ROW(oid, xmin), 0)) FROM pg_operator WHERE oid >= 16384),
  (SELECT sum(hash_record_extended(ROW(oid, xmin), 0)) FROM pg_cast WHERE oid >= 16384),
  (SELECT sum(hash_record_extended(ROW(t.oid, t.xmin), 0)) FROM pg_type AS t
    LEFT JOIN pg_class AS c ON c.oid = t.typrelid
    JOIN pg_namespace AS s ON s.oid = t.typnamespace AND s.nspname !~ '^pg_(toast_)?temp_'
    WHERE t.oid >= 16384 AND c.relpersistence IS DISTINCT FROM 't'))
