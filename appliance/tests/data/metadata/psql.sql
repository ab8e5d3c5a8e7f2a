-- everything
\d
-- a table
\d orders
-- a table, with all there is
\d+ orders
-- a partitioned table
\d+ events
-- a view
\d+ big_orders
-- an index
\d+ orders_pkey
-- a sequence
\d items_id_seq
-- a pattern
\d public.*
-- tables
\dt+
-- tables of the catalogue
\dtS pg_catalog.pg_am*
-- views
\dv+
-- materialized views
\dm+
-- indexes
\di+
-- partitions
\dPt+
-- schemas
\dn+
-- functions
\df+ public.*
-- aggregates
\da sum
-- types
\dT+ public.*
-- domains
\dD
-- operators
\do =
-- casts
\dC text
-- collations
\dO
-- roles
\du
-- roles, with all there is
\du+
-- privileges
\dp
-- default privileges
\ddp
-- settings of roles
\drds
-- databases
\l
-- tablespaces
\db
-- extensions
\dx
-- languages
\dL
-- comments
\dd
-- text search
\dF
-- event triggers
\dy
-- publications
\dRp
-- foreign servers
\des
-- large objects
\dl
-- settings
\dconfig work_mem
-- access methods
\dA
-- statistics objects
\dX
-- source of a function
\sf double
-- source of a view
\sv big_orders
-- columns of a query
SELECT * FROM orders \gdesc
-- encoding
\encoding
-- the connection
SELECT :'DBNAME', :'ENCODING'
