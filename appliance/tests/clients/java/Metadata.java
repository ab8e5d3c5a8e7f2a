// Prints what java.sql.DatabaseMetaData says of a database, one section for each of its questions.

import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.TreeSet;

public final class Metadata {
    private interface Question {
        ResultSet ask() throws SQLException;
    }

    private interface Fact {
        Object of() throws SQLException;
    }

    public static void main(String[] arguments) throws SQLException {
        String url = String.format("jdbc:postgresql://%s:%s/%s", System.getenv("PGHOST"), System.getenv("PGPORT"),
            System.getenv("PGDATABASE"));
        Properties properties = new Properties();
        properties.setProperty("user", System.getenv("PGUSER"));
        properties.setProperty("password", System.getenv("PGPASSWORD"));
        properties.setProperty("sslmode", System.getenv("PGSSLMODE"));
        properties.setProperty("ApplicationName", "Metadata");
        try (Connection connection = DriverManager.getConnection(url, properties)) {
            DatabaseMetaData about = connection.getMetaData();
            facts(connection, about);
            String[] all = null;
            table("getCatalogs", about::getCatalogs);
            table("getSchemas", about::getSchemas);
            table("getSchemas by name", () -> about.getSchemas(null, "pub%"));
            table("getTableTypes", about::getTableTypes);
            table("getTables", () -> about.getTables(null, "public", "%", all));
            table("getTables of two types", () -> about.getTables("orders", null, "%order%", new String[] {"TABLE", "VIEW"}));
            table("getTables of the catalogue", () -> about.getTables(null, "pg_catalog", "pg_cl%", all));
            table("getColumns", () -> about.getColumns(null, "public", "%", "%"));
            table("getColumns of one table", () -> about.getColumns(null, null, "orders", "t%"));
            table("getPrimaryKeys", () -> about.getPrimaryKeys(null, "public", "orders"));
            table("getImportedKeys", () -> about.getImportedKeys(null, "public", "items"));
            table("getExportedKeys", () -> about.getExportedKeys(null, "public", "orders"));
            table("getCrossReference", () -> about.getCrossReference(null, "public", "customers", null, "public", "orders"));
            table("getIndexInfo", () -> about.getIndexInfo(null, "public", "items", false, true));
            table("getIndexInfo, unique", () -> about.getIndexInfo(null, "public", "orders", true, false));
            table("getBestRowIdentifier", () -> about.getBestRowIdentifier(null, "public", "orders", DatabaseMetaData.bestRowSession, true));
            table("getVersionColumns", () -> about.getVersionColumns(null, "public", "orders"));
            table("getTablePrivileges", () -> about.getTablePrivileges(null, "public", "%"));
            table("getColumnPrivileges", () -> about.getColumnPrivileges(null, "public", "customers", "%"));
            table("getTypeInfo", about::getTypeInfo);
            table("getUDTs", () -> about.getUDTs(null, "public", "%", null));
            table("getProcedures", () -> about.getProcedures(null, "public", "%"));
            table("getProcedureColumns", () -> about.getProcedureColumns(null, "public", "%", "%"));
            table("getFunctions", () -> about.getFunctions(null, "public", "%"));
            table("getFunctionColumns", () -> about.getFunctionColumns(null, "public", "%", "%"));
            table("getClientInfoProperties", about::getClientInfoProperties);
            results(connection);
        }
    }

    /// What is asked of the server behind the driver's answers.
    private static void facts(Connection connection, DatabaseMetaData about) throws SQLException {
        fact("product", about::getDatabaseProductVersion);
        fact("keywords", () -> new TreeSet<>(List.of(about.getSQLKeywords().split(","))));
        fact("longest name", about::getMaxColumnNameLength);
        fact("most keys of an index", about::getMaxColumnsInIndex);
        fact("isolation", connection::getTransactionIsolation);
        fact("catalog", connection::getCatalog);
        fact("schema", connection::getSchema);
        fact("valid", () -> connection.isValid(5));
        fact("quoted as", about::getIdentifierQuoteString);
    }

    private static void fact(String name, Fact fact) {
        System.out.println("== " + name);
        try {
            System.out.println(fact.of());
        } catch (SQLException error) {
            System.out.println("ERROR " + error.getSQLState());
        }
    }

    private static void table(String name, Question question) {
        System.out.println("== " + name);
        try (ResultSet rows = question.ask()) {
            print(rows);
        } catch (SQLException error) {
            System.out.println("ERROR " + error.getSQLState());
        }
    }

    /// The driver looks columns of a result up by their table when it is asked where they come from.
    private static void results(Connection connection) throws SQLException {
        System.out.println("== metadata of a result");
        String query = "select o.id, o.total as sum, c.name, i.state, i.tags, i.count, now() as moment from orders o"
            + " join customers c on c.id = o.customer left join items i on i.order_id = o.id limit 0";
        try (var statement = connection.prepareStatement(query)) {
            var about = statement.getMetaData();
            for (int column = 1; column <= about.getColumnCount(); column++) {
                System.out.println(String.join("|", about.getColumnName(column), about.getColumnLabel(column),
                    about.getTableName(column), about.getSchemaName(column), about.getColumnTypeName(column),
                    about.getColumnClassName(column), String.valueOf(about.isAutoIncrement(column)),
                    String.valueOf(about.isNullable(column)), String.valueOf(about.getPrecision(column))));
            }
        } catch (SQLException error) {
            System.out.println("ERROR " + error.getSQLState());
        }
    }

    private static void print(ResultSet rows) throws SQLException {
        int columns = rows.getMetaData().getColumnCount();
        List<String> names = new ArrayList<>();
        for (int column = 1; column <= columns; column++) {
            names.add(rows.getMetaData().getColumnName(column));
        }
        System.out.println(String.join("|", names));
        while (rows.next()) {
            List<String> values = new ArrayList<>();
            for (int column = 1; column <= columns; column++) {
                values.add(String.valueOf(rows.getString(column)));
            }
            System.out.println(String.join("|", values));
        }
    }
}
