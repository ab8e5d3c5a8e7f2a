import java.io.InputStream;
import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.SQLWarning;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.time.LocalDateTime;
import java.util.Arrays;
import java.util.Properties;
import java.util.UUID;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.PGProperty;
import org.postgresql.fastpath.Fastpath;
import org.postgresql.fastpath.FastpathArg;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;
import org.postgresql.util.DriverInfo;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

/**
 * What pgjdbc sees of a database: prints the same through the appliance as directly.
 *
 * Connects by the PG* environment variables. Prints nothing that differs from run to run.
 */
public final class Client {
    private interface Step {
        void run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        System.out.println("# pgjdbc " + DriverInfo.DRIVER_VERSION);
        try (Connection connection = connect(new Properties())) {
            simple(connection);
            prepared(connection);
            batches(connection);
            transactions(connection);
            copy(connection);
            cursors(connection);
            notifications(connection);
            largeObjects(connection);
            failedBatches(connection);
            metadata(connection);
            cancel(connection);
        }
        for (String mode : new String[] {"simple", "extended", "extendedForPrepared", "extendedCacheEverything"}) {
            Properties properties = new Properties();
            PGProperty.PREFER_QUERY_MODE.set(properties, mode);
            PGProperty.PREPARE_THRESHOLD.set(properties, 2);
            try (Connection connection = connect(properties)) {
                title("mode " + mode);
                prepared(connection);
                fields(connection);
                types(connection);
                changes(connection);
            }
        }
        for (String autosave : new String[] {"always", "conservative", "never"}) {
            Properties properties = new Properties();
            PGProperty.AUTOSAVE.set(properties, autosave);
            PGProperty.CLEANUP_SAVEPOINTS.set(properties, autosave.equals("always"));
            PGProperty.PREPARE_THRESHOLD.set(properties, 1);
            try (Connection connection = connect(properties)) {
                title("autosave " + autosave);
                autosave(connection);
            }
        }
        Properties properties = new Properties();
        PGProperty.REWRITE_BATCHED_INSERTS.set(properties, true);
        PGProperty.DEFAULT_ROW_FETCH_SIZE.set(properties, 50);
        PGProperty.BINARY_TRANSFER.set(properties, false);
        PGProperty.APPLICATION_NAME.set(properties, "jdbc");
        PGProperty.CURRENT_SCHEMA.set(properties, "public,pg_catalog");
        PGProperty.OPTIONS.set(properties, "-c work_mem=5MB");
        try (Connection connection = connect(properties)) {
            title("other properties");
            batches(connection);
            cursors(connection);
            types(connection);
            print(connection.createStatement().executeQuery("select current_setting('work_mem'), current_setting('search_path')"));
            for (String name : new String[] {"server_version", "client_encoding", "TimeZone", "DateStyle", "is_superuser", "session_authorization", "application_name"}) {
                System.out.println(name + " " + connection.unwrap(PGConnection.class).getParameterStatus(name));
            }
            connection.setSchema("pg_catalog");
            System.out.println(connection.getSchema() + " " + connection.getCatalog());
        }
    }

    private static Connection connect(Properties properties) throws SQLException {
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT")
            + "/" + System.getenv("PGDATABASE");
        properties.setProperty("user", System.getenv("PGUSER"));
        properties.setProperty("password", System.getenv("PGPASSWORD"));
        properties.setProperty("sslmode", System.getenv("PGSSLMODE"));
        String root = System.getenv("PGSSLROOTCERT");
        if (root != null) {
            properties.setProperty("sslrootcert", root);
        }
        return DriverManager.getConnection(url, properties);
    }

    private static void title(String text) {
        System.out.println("== " + text);
    }

    private static void failure(String what, Step step) throws Exception {
        try {
            step.run();
            System.out.println(what + " succeeded");
        } catch (SQLException error) {
            System.out.println(what + " " + error.getSQLState() + " " + error.getMessage().lines().findFirst().orElse(""));
        }
    }

    private static void print(ResultSet rows) throws SQLException {
        int columns = rows.getMetaData().getColumnCount();
        while (rows.next()) {
            StringBuilder line = new StringBuilder();
            for (int column = 1; column <= columns; column++) {
                line.append(column == 1 ? "" : " | ").append(rows.getString(column));
            }
            System.out.println(line);
        }
    }

    private static void simple(Connection connection) throws Exception {
        title("simple");
        try (Statement statement = connection.createStatement()) {
            print(statement.executeQuery("select 1, 'text', null, 1.50::numeric, date '2026-11-22'"));
            print(statement.executeQuery("select id, name from customers order by id limit 3"));
            System.out.println(statement.execute("select 1; select 2"));
            System.out.println(statement.getMoreResults());
            failure("division", () -> statement.executeQuery("select 1/0"));
            System.out.println(connection.getMetaData().getTables(null, "public", "%", new String[] {"TABLE"}).next());
            print(connection.getMetaData().getPrimaryKeys(null, "public", "orders"));
        }
    }

    private static void prepared(Connection connection) throws Exception {
        title("prepared");
        // Past the threshold pgjdbc names the statement and asks for binary results.
        try (PreparedStatement statement = connection.prepareStatement(
                "select name, cast(? as int8) + 1, cast(? as text) from customers where id = ?")) {
            for (int id = 1; id <= 8; id++) {
                statement.setLong(1, id);
                statement.setString(2, "it's " + id);
                statement.setInt(3, id);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    System.out.println(rows.getString(1) + " " + rows.getLong(2) + " " + rows.getString(3));
                }
            }
        }
        failure("type", () -> connection.prepareStatement("select 'x'::text::int").executeQuery());
    }

    private static void batches(Connection connection) throws Exception {
        title("batches");
        try (Statement statement = connection.createStatement()) {
            statement.execute("create temp table made (a int, b text)");
            statement.addBatch("insert into made values (1, 'a')");
            statement.addBatch("insert into made values (2, 'b')");
            System.out.println(Arrays.toString(statement.executeBatch()));
        }
        try (PreparedStatement statement = connection.prepareStatement("insert into made values (?, ?)")) {
            for (int number = 0; number < 300; number++) {
                statement.setInt(1, number);
                statement.setString(2, "row " + number);
                statement.addBatch();
            }
            System.out.println(Arrays.stream(statement.executeBatch()).sum());
        }
        try (PreparedStatement statement = connection.prepareStatement(
                "insert into made values (?, 'x') returning a", Statement.RETURN_GENERATED_KEYS)) {
            statement.setInt(1, 4711);
            statement.executeUpdate();
            print(statement.getGeneratedKeys());
        }
    }

    private static void transactions(Connection connection) throws Exception {
        title("transactions");
        connection.setAutoCommit(false);
        try (Statement statement = connection.createStatement()) {
            statement.execute("insert into made values (5000, 'kept')");
            Savepoint savepoint = connection.setSavepoint("s");
            failure("inside", () -> statement.execute("select 1/0"));
            failure("aborted", () -> statement.execute("select 1"));
            connection.rollback(savepoint);
            connection.commit();
            statement.execute("insert into made values (5001, 'gone')");
            connection.rollback();
            print(statement.executeQuery("select * from made where a >= 5000"));
            connection.commit();
        }
        connection.setAutoCommit(true);
        connection.setReadOnly(true);
        connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        connection.setAutoCommit(false);
        failure("read only", () -> connection.createStatement().execute("create table t (a int)"));
        connection.rollback();
        connection.setAutoCommit(true);
        connection.setReadOnly(false);
        connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
    }

    private static void copy(Connection connection) throws Exception {
        title("copy");
        try (PreparedStatement statement = connection.prepareStatement("select ?")) {
            statement.setBytes(1, new byte[] {0, 1, -1});
            try (ResultSet rows = statement.executeQuery()) {
                rows.next();
                System.out.println(Arrays.toString(rows.getBytes(1)));
            }
        }
        var copies = connection.unwrap(PGConnection.class).getCopyAPI();
        StringBuilder rows = new StringBuilder();
        for (int number = 10_000; number < 11_000; number++) {
            rows.append(number).append("\trow\n");
        }
        System.out.println(copies.copyIn("copy made from stdin", new StringReader(rows.toString())));
        StringWriter sink = new StringWriter();
        System.out.println(copies.copyOut("copy (select a from made where a >= 10000 order by a) to stdout", sink));
        System.out.println(sink.getBuffer().length());
        failure("copy", () -> copies.copyIn("copy made from stdin", new StringReader("x\ty\n")));
        try (Statement statement = connection.createStatement()) {
            print(statement.executeQuery("select count(*) from made"));
        }
    }

    private static void cursors(Connection connection) throws Exception {
        title("cursors");
        connection.setAutoCommit(false);
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(37);
            long total = 0;
            try (ResultSet rows = statement.executeQuery("select id from orders order by id")) {
                while (rows.next()) {
                    total += rows.getInt(1);
                }
            }
            System.out.println(total);
            try (ResultSet rows = statement.executeQuery("select id from orders order by id")) {
                rows.next();
                System.out.println("left open at " + rows.getInt(1));
            }
        }
        connection.commit();
        connection.setAutoCommit(true);
    }

    private static void notifications(Connection connection) throws Exception {
        title("notifications");
        try (Statement statement = connection.createStatement()) {
            statement.execute("listen news");
            statement.execute("notify news, 'payload'");
            for (PGNotification told : connection.unwrap(PGConnection.class).getNotifications(10_000)) {
                System.out.println(told.getName() + " " + told.getParameter());
            }
            statement.execute("do $$ begin raise notice 'hello'; end $$");
            System.out.println(statement.getWarnings().getMessage());
        }
    }

    private static void cancel(Connection connection) throws Exception {
        title("cancel");
        try (Statement statement = connection.createStatement()) {
            Thread canceller = new Thread(() -> {
                try {
                    Thread.sleep(500);
                    statement.cancel();
                } catch (InterruptedException | SQLException error) {
                    System.out.println("canceller " + error);
                }
            });
            canceller.start();
            failure("cancelled", () -> statement.execute("select pg_sleep(60)"));
            canceller.join();
            statement.setQueryTimeout(1);
            failure("timeout", () -> statement.execute("select pg_sleep(60)"));
            statement.setQueryTimeout(0);
            print(statement.executeQuery("select 4"));
        }
    }

    private static void fields(Connection connection) throws Exception {
        title("fields of errors");
        String[] texts = {
            "select 1/0",
            "selekt",
            "insert into orders values (1, 1, 1)",
            "insert into orders values (70001, 70001, 1)",
            "select no_such_column from customers",
            "do $$ begin raise exception 'm' using detail = 'd', hint = 'h', errcode = 'P0042', column = 'c', constraint = 'n', datatype = 't', table = 'b', schema = 's'; end $$",
            "do $$ begin execute 'select 1/0'; end $$",
        };
        for (String text : texts) {
            try (Statement statement = connection.createStatement()) {
                statement.execute(text);
            } catch (PSQLException error) {
                ServerErrorMessage m = error.getServerErrorMessage();
                System.out.println(String.join("|", String.valueOf(m.getSeverity()), m.getSQLState(), m.getMessage(), m.getDetail(), m.getHint(),
                    String.valueOf(m.getPosition()), String.valueOf(m.getInternalPosition()), m.getInternalQuery(), m.getWhere(), m.getSchema(), m.getTable(),
                    m.getColumn(), m.getDatatype(), m.getConstraint(), m.getFile(), String.valueOf(m.getLine()), m.getRoutine()));
            }
        }
        try (Statement statement = connection.createStatement()) {
            statement.execute("do $$ begin raise warning 'w' using detail = 'd'; raise info 'i'; end $$");
            for (SQLWarning warning = statement.getWarnings(); warning != null; warning = warning.getNextWarning()) {
                System.out.println(warning.getSQLState() + " " + warning.getMessage());
            }
        }
    }

    private static void types(Connection connection) throws Exception {
        title("types");
        // Twice past the threshold: text first, then binary where the driver knows how.
        String text = "select true, 1::int2, 2::int4, 3::int8, 1.5::float4, 'NaN'::float8, 1.50::numeric, 'NaN'::numeric, 'x'::text, 'y'::char(3), '\\x00ff'::bytea,"
            + " date '2026-11-26', date 'infinity', time '12:34:56', timetz '12:34:56+02', timestamp '2026-11-26 12:00:00.123456', timestamptz '2026-11-26 12:00+00',"
            + " interval '1 year 2 days', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, '{1,2}'::int[], '{a,b}'::text[], '{\"a\": 1}'::jsonb, '<a/>'::xml, '(1,2)'::point,"
            + " '[1,5)'::int4range, row(1, 'x'), '10.0.0.1'::inet, 7::oid, null::int, b'101', '12.34'::money";
        try (PreparedStatement statement = connection.prepareStatement(text)) {
            for (int run = 0; run < 6; run++) {
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    StringBuilder line = new StringBuilder();
                    ResultSetMetaData metadata = rows.getMetaData();
                    for (int column = 1; column <= metadata.getColumnCount(); column++) {
                        line.append(metadata.getColumnTypeName(column)).append('=')
                            .append(metadata.getColumnType(column) == Types.BINARY ? Arrays.toString(rows.getBytes(column)) : rows.getString(column)).append(' ');
                    }
                    System.out.println(line);
                }
            }
        }
        // In simple mode the driver writes the values into the text and cannot write all of them.
        failure("values", () -> values(connection));
    }

    private static void values(Connection connection) throws Exception {
        try (PreparedStatement statement = connection.prepareStatement("select ?, ?, ?, ?, ?, ?, ?")) {
            for (int run = 0; run < 3; run++) {
                statement.setObject(1, UUID.fromString("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"));
                statement.setBigDecimal(2, new BigDecimal("12345678901234567890.123456789"));
                statement.setArray(3, connection.createArrayOf("int4", new Integer[] {1, null, 3}));
                statement.setNull(4, Types.INTEGER);
                statement.setObject(5, LocalDateTime.parse("2026-11-26T12:00:00.5"));
                statement.setBytes(6, new byte[100_000]);
                statement.setBoolean(7, true);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    System.out.println(rows.getString(1) + " " + rows.getString(2) + " " + rows.getString(3) + " " + rows.getString(4) + " " + rows.getString(5) + " " + rows.getBytes(6).length + " " + rows.getBoolean(7));
                }
            }
        }
    }

    private static void changes(Connection connection) throws Exception {
        title("changes under prepared statements");
        try (Statement statement = connection.createStatement()) {
            statement.execute("create table if not exists changing (a int)");
            statement.execute("insert into changing values (1)");
            try (PreparedStatement prepared = connection.prepareStatement("select * from changing")) {
                for (int run = 0; run < 4; run++) {
                    print(prepared.executeQuery());
                }
                statement.execute("alter table changing add b text");
                failure("changed", () -> print(prepared.executeQuery()));
                failure("again", () -> print(prepared.executeQuery()));
                statement.execute("deallocate all");
                failure("deallocated", () -> print(prepared.executeQuery()));
                statement.execute("discard all");
                failure("discarded", () -> print(prepared.executeQuery()));
            }
            statement.execute("drop table changing");
        }
    }

    private static void autosave(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        try (Statement statement = connection.createStatement()) {
            statement.execute("create temp table kept (a int primary key)");
            statement.execute("insert into kept values (1)");
            failure("duplicate", () -> statement.execute("insert into kept values (1)"));
            failure("after", () -> statement.execute("insert into kept values (2)"));
            PreparedStatement prepared = connection.prepareStatement("select * from kept");
            for (int run = 0; run < 3; run++) {
                failure("before", () -> print(prepared.executeQuery()));
            }
            failure("alter", () -> statement.execute("alter table kept add b text"));
            failure("changed", () -> print(prepared.executeQuery()));
            failure("deallocate", () -> statement.execute("deallocate all"));
            failure("deallocated", () -> print(prepared.executeQuery()));
            failure("commit", connection::commit);
            failure("end", () -> print(statement.executeQuery("select count(*) from kept")));
        }
    }

    private static void largeObjects(Connection connection) throws Exception {
        title("large objects");
        connection.setAutoCommit(false);
        LargeObjectManager manager = connection.unwrap(PGConnection.class).getLargeObjectAPI();
        byte[] content = new byte[1_000_000];
        for (int at = 0; at < content.length; at++) {
            content[at] = (byte) (at * 31);
        }
        long oid = manager.createLO(LargeObjectManager.READWRITE);
        try (LargeObject object = manager.open(oid, LargeObjectManager.READWRITE)) {
            object.write(content);
            System.out.println(object.tell() + " " + object.size());
            object.seek(-10, LargeObject.SEEK_END);
            System.out.println(Arrays.toString(object.read(20)));
            object.truncate(500);
            object.seek64(0, LargeObject.SEEK_SET);
            System.out.println(Arrays.hashCode(object.read(1000)) + " " + object.size64());
            try (InputStream stream = object.getInputStream()) {
                System.out.println(stream.readAllBytes().length);
            }
        }
        connection.commit();
        failure("unopened", () -> manager.open(4711L, LargeObjectManager.READ));
        connection.rollback();
        manager.delete(oid);
        failure("deleted", () -> manager.open(oid, LargeObjectManager.READ));
        connection.rollback();
        Fastpath fastpath = connection.unwrap(PGConnection.class).getFastpathAPI();
        failure("fast path", () -> System.out.println(fastpath.getInteger("lo_creat", new FastpathArg[] {new FastpathArg(LargeObjectManager.READ)}) > 0));
        failure("fast path", () -> fastpath.fastpath("lo_close", new FastpathArg[] {new FastpathArg(77)}));
        connection.rollback();
        connection.setAutoCommit(true);
    }

    private static void failedBatches(Connection connection) throws Exception {
        title("failed batches");
        try (Statement statement = connection.createStatement()) {
            statement.execute("create temp table batched (a int primary key)");
        }
        for (boolean automatic : new boolean[] {true, false}) {
            connection.setAutoCommit(automatic);
            try (PreparedStatement statement = connection.prepareStatement("insert into batched values (?)")) {
                for (int number : new int[] {1, 2, 2, 3, 4}) {
                    statement.setInt(1, number);
                    statement.addBatch();
                }
                statement.executeBatch();
            } catch (BatchUpdateException error) {
                System.out.println(Arrays.toString(error.getUpdateCounts()) + " " + error.getSQLState() + " " + error.getNextException().getSQLState());
            }
            if (!automatic) {
                connection.rollback();
            }
            connection.setAutoCommit(true);
            print(connection.createStatement().executeQuery("select count(*) from batched"));
        }
        try (Statement statement = connection.createStatement()) {
            for (String text : new String[] {"insert into batched values (10)", "select 1/0", "insert into batched values (11)"}) {
                statement.addBatch(text);
            }
            statement.executeBatch();
        } catch (BatchUpdateException error) {
            System.out.println(Arrays.toString(error.getUpdateCounts()) + " " + error.getSQLState());
        }
        try (PreparedStatement statement = connection.prepareStatement("insert into batched values (?)")) {
            for (int number = 1000; number < 6000; number++) {
                statement.setInt(1, number);
                statement.addBatch();
            }
            System.out.println(Arrays.stream(statement.executeBatch()).sum());
        }
    }

    private static void metadata(Connection connection) throws Exception {
        title("metadata");
        DatabaseMetaData metadata = connection.getMetaData();
        print(metadata.getTables(null, "public", "%", null));
        print(metadata.getColumns(null, "public", "%", "%"));
        print(metadata.getImportedKeys(null, "public", "orders"));
        print(metadata.getIndexInfo(null, "public", "customers", false, true));
        print(metadata.getTypeInfo());
        print(metadata.getSchemas());
        print(metadata.getFunctions(null, "pg_catalog", "lo\\_%"));
        System.out.println(metadata.getDatabaseProductVersion() + " " + metadata.getDriverVersion() + " " + metadata.getMaxConnections() + " " + metadata.getUserName());
        try (PreparedStatement statement = connection.prepareStatement("select id, $$?$$, total + ? from orders where customer = ?")) {
            System.out.println(statement.getMetaData().getColumnCount() + " " + statement.getParameterMetaData().getParameterTypeName(2));
        }
    }
}
