import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.Arrays;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.PGProperty;

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
        try (Connection connection = connect(new Properties())) {
            simple(connection);
            prepared(connection);
            batches(connection);
            transactions(connection);
            copy(connection);
            cursors(connection);
            notifications(connection);
            cancel(connection);
        }
        for (String mode : new String[] {"simple", "extended", "extendedForPrepared", "extendedCacheEverything"}) {
            Properties properties = new Properties();
            PGProperty.PREFER_QUERY_MODE.set(properties, mode);
            PGProperty.PREPARE_THRESHOLD.set(properties, 2);
            try (Connection connection = connect(properties)) {
                title("mode " + mode);
                prepared(connection);
            }
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
}
