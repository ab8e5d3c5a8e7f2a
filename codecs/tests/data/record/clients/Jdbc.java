// Scenarios with pgjdbc; the first argument names one.

import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.sql.*;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

public class Jdbc {
    public static void main(String[] arguments) throws Exception {
        String port = System.getenv("PGPORT");
        String url = "jdbc:postgresql://127.0.0.1:" + port + "/postgres?user=tester";
        try (Connection c = DriverManager.getConnection(url)) {
            switch (arguments[0]) {
                case "prepared": prepared(c); break;
                case "batch": batch(c); break;
                case "cursors": cursors(c); break;
                case "copy": copy(c); break;
                case "large_object": largeObject(c); break;
                case "cancel": cancel(c); break;
                default: throw new IllegalArgumentException(arguments[0]);
            }
        }
    }

    static void prepared(Connection c) throws SQLException {
        try (PreparedStatement statement = c.prepareStatement("SELECT ?::int4 + 1, ?::text")) {
            for (int number = 0; number < 7; number++) {
                statement.setInt(1, number);
                statement.setString(2, null);
                statement.executeQuery().next();
            }
        }
        try (Statement statement = c.createStatement()) {
            statement.execute("SELECT 1; SELECT 2; INSERT INTO things VALUES (40, 'jdbc')");
            statement.execute("SELECT 1/0");
        } catch (SQLException expected) {
            c.createStatement().execute("SELECT 3");
        }
    }

    static void batch(Connection c) throws SQLException {
        c.setAutoCommit(false);
        try (PreparedStatement statement = c.prepareStatement("INSERT INTO things VALUES (?, ?)")) {
            for (int number = 50; number < 55; number++) {
                statement.setInt(1, number);
                statement.setString(2, "batch");
                statement.addBatch();
            }
            statement.executeBatch();
            c.commit();
            statement.setInt(1, 1);
            statement.setString(2, "a duplicate of the fixture");
            statement.addBatch();
            statement.setInt(1, 60);
            statement.setString(2, "never");
            statement.addBatch();
            statement.executeBatch();
        } catch (SQLException expected) {
            c.rollback();
        }
    }

    static void cursors(Connection c) throws SQLException {
        c.setAutoCommit(false);
        try (Statement statement = c.createStatement()) {
            statement.setFetchSize(3);
            ResultSet rows = statement.executeQuery("SELECT generate_series(1, 10)");
            while (rows.next()) {}
            ResultSet left = statement.executeQuery("SELECT generate_series(1, 10)");
            left.next();
            left.close();
        }
        c.commit();
    }

    static void copy(Connection c) throws Exception {
        CopyManager manager = c.unwrap(PGConnection.class).getCopyAPI();
        manager.copyIn("COPY things FROM STDIN", new StringReader("70\tx\n71\t\\N\n"));
        manager.copyOut("COPY (SELECT * FROM things WHERE number > 69) TO STDOUT",
            new ByteArrayOutputStream());
        try {
            manager.copyIn("COPY things FROM STDIN", new StringReader("not a number\tx\n"));
        } catch (SQLException expected) {
            c.createStatement().execute("SELECT 1");
        }
    }

    static void largeObject(Connection c) throws SQLException {
        c.setAutoCommit(false);
        LargeObjectManager manager = c.unwrap(PGConnection.class).getLargeObjectAPI();
        long oid = manager.createLO(LargeObjectManager.READWRITE);
        try (LargeObject object = manager.open(oid, LargeObjectManager.READWRITE)) {
            object.write(new byte[] {1, 2, 3, 0, (byte) 255});
            object.seek(0);
            object.read(100);
        }
        manager.delete(oid);
        c.commit();
        try {
            manager.open(oid, LargeObjectManager.READ);
        } catch (SQLException expected) {
            c.rollback();
        }
    }

    static void cancel(Connection c) throws Exception {
        Statement statement = c.createStatement();
        new Thread(() -> {
            try {
                Thread.sleep(300);
                statement.cancel();
            } catch (Exception unexpected) {
                throw new RuntimeException(unexpected);
            }
        }).start();
        try {
            statement.execute("SELECT pg_sleep(30)");
        } catch (SQLException expected) {
            statement.execute("SELECT 1");
        }
    }
}
