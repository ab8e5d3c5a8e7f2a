import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.PGProperty;
import org.postgresql.util.PSQLException;

/**
 * Runs each line of the file that SALLYPORT_STATEMENTS names, and prints everything that comes back: by the simple
 * protocol, and by the extended one with results in binary from the start.
 *
 * Connects by the PG* environment variables. A value that the driver cannot decode is printed as UNDECODED.
 */
public final class Leaks {
    public static void main(String[] arguments) throws Exception {
        for (String mode : new String[] {"simple", "extended"}) {
            Connection connection = connect(mode);
            int number = -1;
            for (String statement : Files.readAllLines(Path.of(System.getenv("SALLYPORT_STATEMENTS")))) {
                number++;
                if (connection.isClosed()) {
                    connection = connect(mode);
                }
                try {
                    run(connection, statement);
                } catch (PSQLException error) {
                    System.out.println("error " + error.getSQLState() + " " + error.getServerErrorMessage());
                    if (error.getServerErrorMessage() == null && !connection.isClosed()) {
                        System.out.println("UNDECODED " + number + " " + error.getSQLState());
                    }
                }
            }
            connection.close();
        }
    }

    private static Connection connect(String mode) throws SQLException {
        Properties properties = new Properties();
        PGProperty.PREFER_QUERY_MODE.set(properties, mode);
        // Binary results from the first execution on.
        PGProperty.PREPARE_THRESHOLD.set(properties, -1);
        PGProperty.USER.set(properties, System.getenv("PGUSER"));
        PGProperty.PASSWORD.set(properties, System.getenv("PGPASSWORD"));
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
        return DriverManager.getConnection(url + "?sslmode=disable", properties);
    }

    private static void run(Connection connection, String text) throws Exception {
        if (text.startsWith("copy ")) {
            if (!text.contains("binary")) {
                StringWriter out = new StringWriter();
                connection.unwrap(PGConnection.class).getCopyAPI().copyOut(text, out);
                System.out.println(out);
            }
            return;
        }
        try (PreparedStatement statement = connection.prepareStatement(text)) {
            if (!statement.execute()) {
                return;
            }
            ResultSet rows = statement.getResultSet();
            int count = rows.getMetaData().getColumnCount();
            while (rows.next()) {
                StringBuilder line = new StringBuilder();
                for (int column = 1; column <= count; column++) {
                    byte[] bytes = rows.getMetaData().getColumnTypeName(column).equals("bytea") ? rows.getBytes(column) : null;
                    line.append(bytes == null ? rows.getString(column) : new String(bytes, "ISO-8859-1")).append(" | ");
                }
                System.out.println(line);
            }
        }
    }
}
