import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.sql.SQLWarning;
import java.util.Properties;

/** What pgjdbc sees of held commands: the notices and what became of each statement. */
public class Hold {
    public static void main(String[] statements) throws Exception {
        Properties properties = new Properties();
        properties.setProperty("user", System.getenv("PGUSER"));
        properties.setProperty("password", System.getenv("PGPASSWORD"));
        properties.setProperty("sslmode", System.getenv("PGSSLMODE"));
        properties.setProperty("sslrootcert", System.getenv("PGSSLROOTCERT"));
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
        try (Connection connection = DriverManager.getConnection(url, properties)) {
            for (String statement : statements) {
                run(connection, statement.replace("$1", "?"));
            }
        }
    }

    static void run(Connection connection, String text) {
        try (PreparedStatement statement = connection.prepareStatement(text)) {
            statement.setString(1, "7");
            String outcome;
            try {
                statement.execute();
                outcome = "result " + statement.getUpdateCount();
            } catch (SQLException error) {
                outcome = "error " + error.getSQLState() + " " + error.getMessage().replace('\n', ' ');
            }
            for (SQLWarning it = statement.getWarnings(); it != null; it = it.getNextWarning()) {
                System.out.println("notice " + it.getSQLState() + " " + it.getMessage());
            }
            System.out.println(outcome);
        } catch (SQLException error) {
            System.out.println("failed " + error.getMessage());
        }
    }
}
