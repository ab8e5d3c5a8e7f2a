//! What a text asks of the one table, read by its words.
//!
//! Not PostgreSQL's grammar: what it does not know it refuses, so that nobody measures an answer to
//! another question.

use std::borrow::Cow;

use super::table::{Field, TABLE_NAME, oid};

/// Deepest nesting of comments; PostgreSQL has no bound, and nobody nests them.
const COMMENTS_MAX: u32 = 16;

/// Most items of one SELECT list, and most parameters.
const ITEMS_MAX: usize = 256;

/// Longest text that `repeat` makes; each row holds it.
const REPEATED_BYTES_MAX: usize = 1 << 20;

/// One statement, as what is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    Rows(Select),
    /// Rows of values, one for each number of a series; one row without a series.
    Values {
        items: Vec<Item>,
        first: u32,
        last: u32,
    },
    /// Rows about the database itself.
    Catalogue(Catalogue),
    CopyOut(Select),
    CopyIn,
    /// Nothing is done; the tag says that it was.
    Done(&'static str),
    /// Rows that would have been inserted.
    Insert(u32),
    Set {
        name: String,
        value: Option<String>,
    },
    ResetAll,
    Show(String),
    DiscardAll,
    Begin,
    Commit,
    Rollback,
    /// `None` is all.
    Deallocate(Option<String>),
}

/// Rows of the table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Select {
    pub(super) fields: Vec<Field>,
    pub(super) keys: Keys,
    pub(super) limit: Option<u32>,
}

/// Which rows, by `id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    All,
    One(Operand),
    UpTo(Operand),
    Between(Operand, Operand),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    Number(u32),
    /// Counted from 1.
    Parameter(u16),
}

/// One value of a SELECT without a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) type_oid: u32,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Text(String),
    /// The number of the row in its series.
    Number,
    Parameter(u16),
    User,
    Database,
    ProcessId,
    SetConfig {
        name: String,
        value: String,
    },
    Sleep {
        seconds: f64,
    },
}

/// What is asked about the database itself, as Sallyport asks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Catalogue {
    /// One row that tells one state of the catalogue from another.
    Fingerprint,
    Relations,
    Columns,
    UniqueColumns,
    /// There is nothing of it.
    Nothing,
}

/// Why a text is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Syntax,
    NoSuchTable,
    NoSuchColumn,
    Unsupported,
    NotUtf8,
}

#[derive(Debug, Clone, PartialEq)]
enum Token<'t> {
    /// In lower case unless quoted.
    Word(Cow<'t, str>),
    Number(&'t str),
    Text(String),
    Parameter(u16),
    Symbol(char),
}

/// The statements of a text; empty ones are left out.
pub(super) fn read(text: &[u8]) -> Result<Vec<Command>, Refused> {
    let text = std::str::from_utf8(text).map_err(|_| Refused::NotUtf8)?;
    let tokens = tokens(text)?;
    let statements = split(&tokens, ';');
    statements
        .into_iter()
        .filter(|statement| !statement.is_empty())
        .map(command)
        .collect()
}

/// The types of the parameters, by their number.
pub(super) fn parameters(command: &Command) -> Vec<u32> {
    let mut found: Vec<u32> = Vec::new();
    let mut note = |number: u16, type_oid| {
        let index = usize::from(number.saturating_sub(1));
        if found.len() <= index {
            found.resize(index + 1, oid::TEXT);
        }
        if let Some(known) = found.get_mut(index) {
            *known = type_oid;
        }
    };
    let mut key = |operand: Operand| {
        if let Operand::Parameter(number) = operand {
            note(number, oid::INT4);
        }
    };
    if let Command::Rows(select) | Command::CopyOut(select) = command {
        match select.keys {
            Keys::All => {}
            Keys::One(operand) | Keys::UpTo(operand) => key(operand),
            Keys::Between(first, last) => {
                key(first);
                key(last);
            }
        }
    } else if let Command::Values { items, .. } = command {
        for item in items {
            if let Value::Parameter(number) = item.value {
                note(number, item.type_oid);
            }
        }
    }
    found
}

fn command(tokens: &[Token<'_>]) -> Result<Command, Refused> {
    let Some(Token::Word(first)) = tokens.first() else {
        return Err(Refused::Syntax);
    };
    let rest = tokens.get(1..).unwrap_or_default();
    let second = rest.first().and_then(word);
    Ok(match &**first {
        "select" => return select(rest),
        "with" | "table" if names_catalogue(rest) => Command::Catalogue(Catalogue::Nothing),
        "copy" => return copy(rest),
        "insert" => insert(rest)?,
        "update" => on_table(rest, "UPDATE 1")?,
        "delete" => on_table(rest.get(1..).unwrap_or_default(), "DELETE 1")?,
        "set" => return set(rest),
        "reset" if second == Some("all") => Command::ResetAll,
        "reset" => Command::Set {
            name: setting_name(rest)?.0,
            value: None,
        },
        "show" => Command::Show(setting_name(rest)?.0),
        "discard" => match second {
            Some("all") => Command::DiscardAll,
            _ => Command::Done("DISCARD"),
        },
        "begin" | "start" => Command::Begin,
        "commit" | "end" => Command::Commit,
        "rollback" | "abort" if second != Some("to") => Command::Rollback,
        "rollback" => Command::Done("ROLLBACK"),
        "savepoint" => Command::Done("SAVEPOINT"),
        "release" => Command::Done("RELEASE"),
        "deallocate" => {
            let name = rest.iter().filter_map(word).find(|word| *word != "prepare");
            Command::Deallocate(name.filter(|name| *name != "all").map(str::to_owned))
        }
        "create" => Command::Done("CREATE"),
        "drop" => Command::Done("DROP"),
        "alter" => Command::Done("ALTER"),
        "truncate" => Command::Done("TRUNCATE TABLE"),
        "grant" => Command::Done("GRANT"),
        "revoke" => Command::Done("REVOKE"),
        "vacuum" => Command::Done("VACUUM"),
        "analyze" => Command::Done("ANALYZE"),
        "lock" => Command::Done("LOCK TABLE"),
        "listen" => Command::Done("LISTEN"),
        "unlisten" => Command::Done("UNLISTEN"),
        "notify" => Command::Done("NOTIFY"),
        "with" | "table" | "values" | "explain" | "declare" | "fetch" | "close" | "prepare"
        | "execute" | "do" | "call" | "merge" => return Err(Refused::Unsupported),
        _ => return Err(Refused::Syntax),
    })
}

fn select(tokens: &[Token<'_>]) -> Result<Command, Refused> {
    let from = position(tokens, "from");
    let items = tokens.get(..from.unwrap_or(tokens.len())).unwrap_or(tokens);
    let Some(from) = from else {
        if squeezed(items).starts_with("concat_ws(',',current_setting('server_version_num')") {
            return Ok(Command::Catalogue(Catalogue::Fingerprint));
        }
        return values(items, None, 1, 1);
    };
    let source = tokens.get(from + 1..).unwrap_or_default();
    if let [
        Token::Word(function),
        Token::Symbol('('),
        Token::Number(first),
        Token::Symbol(','),
        Token::Number(last),
        Token::Symbol(')'),
        alias @ ..,
    ] = source
        && function == "generate_series"
    {
        let number = |text: &str| text.parse().map_err(|_| Refused::Unsupported);
        let name = match alias {
            [] => "generate_series",
            [Token::Word(as_), Token::Word(name)] if as_ == "as" => name,
            [Token::Word(name)] if !is_clause(name) => name,
            _ => return Err(Refused::Unsupported),
        };
        return values(items, Some(name), number(first)?, number(last)?);
    }
    if names_catalogue(source) {
        return Ok(Command::Catalogue(catalogue(items)));
    }
    Ok(Command::Rows(table(items, source)?))
}

/// `series` is what the numbers are called, where there are any.
fn values(
    items: &[Token<'_>],
    series: Option<&str>,
    first: u32,
    last: u32,
) -> Result<Command, Refused> {
    let parts = split(items, ',');
    if parts.len() > ITEMS_MAX {
        return Err(Refused::Unsupported);
    }
    let items = parts
        .into_iter()
        .map(|part| match (series, without_alias(part)) {
            (Some(name), [Token::Symbol('*')]) => Ok(numbers(name)),
            (Some(name), [Token::Word(word)]) if word == name => Ok(numbers(name)),
            _ => item(part),
        })
        .collect::<Result<_, _>>()?;
    Ok(Command::Values { items, first, last })
}

fn numbers(name: &str) -> Item {
    Item {
        name: name.to_owned(),
        type_oid: oid::INT4,
        value: Value::Number,
    }
}

/// What of the catalogue the columns of a query tell.
fn catalogue(items: &[Token<'_>]) -> Catalogue {
    let columns = squeezed(items);
    if columns.starts_with("c.oid,s.nspname,c.relname,c.relkind,") {
        Catalogue::Relations
    } else if columns == "a.attrelid,a.attnum,a.attname,a.atttypid" {
        Catalogue::Columns
    } else if columns == "i.indrelid,i.indkey" {
        Catalogue::UniqueColumns
    } else {
        Catalogue::Nothing
    }
}

fn names_catalogue(tokens: &[Token<'_>]) -> bool {
    tokens
        .iter()
        .filter_map(word)
        .any(|word| word.starts_with("pg_") || word == "information_schema")
}

/// `items FROM source`.
fn table(items: &[Token<'_>], source: &[Token<'_>]) -> Result<Select, Refused> {
    let rest = skip_table(source)?;
    // An alias.
    let rest = match rest {
        [Token::Word(as_), Token::Word(_), rest @ ..] if as_ == "as" => rest,
        [Token::Word(alias), rest @ ..] if !is_clause(alias) => rest,
        rest => rest,
    };
    let mut select = Select {
        fields: fields(items)?,
        keys: Keys::All,
        limit: None,
    };
    clauses(rest, &mut select)?;
    Ok(select)
}

/// Takes `accounts`, `public.accounts` or `ONLY` in front of them off.
fn skip_table<'s, 't>(source: &'s [Token<'t>]) -> Result<&'s [Token<'t>], Refused> {
    let source = match source {
        [Token::Word(only), rest @ ..] if only == "only" => rest,
        source => source,
    };
    let (name, rest) = match source {
        [
            Token::Word(schema),
            Token::Symbol('.'),
            Token::Word(name),
            rest @ ..,
        ] if schema == "public" => (name, rest),
        [Token::Word(name), rest @ ..] => (name, rest),
        _ => return Err(Refused::Unsupported),
    };
    if name == TABLE_NAME {
        Ok(rest)
    } else {
        Err(Refused::NoSuchTable)
    }
}

fn is_clause(word: &str) -> bool {
    matches!(
        word,
        "where" | "order" | "limit" | "group" | "join" | "for" | "offset" | "having" | "union"
    )
}

fn fields(items: &[Token<'_>]) -> Result<Vec<Field>, Refused> {
    let mut fields = Vec::new();
    for item in split(items, ',') {
        let item = without_alias(item);
        match item {
            [Token::Symbol('*')] | [Token::Word(_), Token::Symbol('.'), Token::Symbol('*')] => {
                fields.extend(Field::ALL);
            }
            [Token::Word(name)] | [Token::Word(_), Token::Symbol('.'), Token::Word(name)] => {
                fields.push(Field::from_name(name).ok_or(Refused::NoSuchColumn)?);
            }
            _ => return Err(Refused::Unsupported),
        }
        if fields.len() > ITEMS_MAX {
            return Err(Refused::Unsupported);
        }
    }
    Ok(fields)
}

fn clauses(mut rest: &[Token<'_>], select: &mut Select) -> Result<(), Refused> {
    loop {
        rest = match rest {
            [] => return Ok(()),
            [Token::Word(where_), rest @ ..] if where_ == "where" => condition(rest, select)?,
            // Rows come in the order of `id` anyway.
            [
                Token::Word(order),
                Token::Word(by),
                Token::Word(id),
                rest @ ..,
            ] if order == "order" && by == "by" && id == "id" => rest,
            [Token::Word(limit), Token::Number(count), rest @ ..] if limit == "limit" => {
                select.limit = Some(count.parse().map_err(|_| Refused::Syntax)?);
                rest
            }
            _ => return Err(Refused::Unsupported),
        };
    }
}

/// `id = KEY`, `id <= KEY`, `id BETWEEN KEY AND KEY`.
fn condition<'s, 't>(
    tokens: &'s [Token<'t>],
    select: &mut Select,
) -> Result<&'s [Token<'t>], Refused> {
    let tokens = match tokens {
        [Token::Word(_), Token::Symbol('.'), rest @ ..] => rest,
        tokens => tokens,
    };
    let [Token::Word(id), rest @ ..] = tokens else {
        return Err(Refused::Unsupported);
    };
    if id != "id" {
        return Err(Refused::Unsupported);
    }
    let (keys, rest) = match rest {
        [Token::Symbol('='), rest @ ..] => {
            let (key, rest) = operand(rest)?;
            (Keys::One(key), rest)
        }
        [Token::Symbol('<'), Token::Symbol('='), rest @ ..] => {
            let (key, rest) = operand(rest)?;
            (Keys::UpTo(key), rest)
        }
        [Token::Word(between), rest @ ..] if between == "between" => {
            let (first, rest) = operand(rest)?;
            let [Token::Word(and), rest @ ..] = rest else {
                return Err(Refused::Syntax);
            };
            if and != "and" {
                return Err(Refused::Syntax);
            }
            let (last, rest) = operand(rest)?;
            (Keys::Between(first, last), rest)
        }
        _ => return Err(Refused::Unsupported),
    };
    select.keys = keys;
    Ok(rest)
}

/// A number or a parameter, with its cast.
fn operand<'s, 't>(tokens: &'s [Token<'t>]) -> Result<(Operand, &'s [Token<'t>]), Refused> {
    let (operand, rest) = match tokens {
        [Token::Number(number), rest @ ..] => {
            let number = number.parse().map_err(|_| Refused::Unsupported)?;
            (Operand::Number(number), rest)
        }
        [Token::Parameter(number), rest @ ..] => (Operand::Parameter(*number), rest),
        _ => return Err(Refused::Unsupported),
    };
    let rest = match rest {
        [
            Token::Symbol(':'),
            Token::Symbol(':'),
            Token::Word(_),
            rest @ ..,
        ] => rest,
        rest => rest,
    };
    Ok((operand, rest))
}

fn item(tokens: &[Token<'_>]) -> Result<Item, Refused> {
    let alias = match tokens {
        [.., Token::Word(as_), Token::Word(name)] if as_ == "as" => Some(name.to_string()),
        _ => None,
    };
    let mut tokens = without_alias(tokens);
    let mut cast = None;
    if let [
        inner @ ..,
        Token::Symbol(':'),
        Token::Symbol(':'),
        Token::Word(type_),
    ] = tokens
    {
        tokens = inner;
        cast = Some(match &**type_ {
            "int" | "int4" | "integer" => oid::INT4,
            "int8" | "bigint" => oid::INT8,
            "text" | "varchar" | "name" => oid::TEXT,
            _ => return Err(Refused::Unsupported),
        });
    }
    let (name, type_oid, value) = value(tokens)?;
    Ok(Item {
        name: alias.unwrap_or_else(|| name.to_owned()),
        type_oid: cast.unwrap_or(type_oid),
        value,
    })
}

fn value(tokens: &[Token<'_>]) -> Result<(&'static str, u32, Value), Refused> {
    const UNNAMED: &str = "?column?";
    let text = |text: &str| Value::Text(text.to_owned());
    match tokens {
        [Token::Number(number)] => return Ok((UNNAMED, number_type(number), text(number))),
        [Token::Symbol('-'), Token::Number(number)] => {
            let negative = Value::Text(format!("-{number}"));
            return Ok((UNNAMED, number_type(number), negative));
        }
        [Token::Text(string)] => return Ok((UNNAMED, oid::TEXT, text(string))),
        [Token::Parameter(number)] => {
            return Ok((UNNAMED, oid::TEXT, Value::Parameter(*number)));
        }
        [
            Token::Word(function),
            Token::Symbol('('),
            Token::Number(seconds),
            Token::Symbol(')'),
        ] if function == "pg_sleep" => {
            let seconds = seconds.parse().map_err(|_| Refused::Syntax)?;
            return Ok(("pg_sleep", oid::VOID, Value::Sleep { seconds }));
        }
        [
            Token::Word(function),
            Token::Symbol('('),
            Token::Text(string),
            Token::Symbol(','),
            Token::Number(times),
            Token::Symbol(')'),
        ] if function == "repeat" => {
            let times: usize = times.parse().map_err(|_| Refused::Syntax)?;
            if string.len().saturating_mul(times) > REPEATED_BYTES_MAX {
                return Err(Refused::Unsupported);
            }
            return Ok(("repeat", oid::TEXT, Value::Text(string.repeat(times))));
        }
        _ => {}
    }
    if let Some(value) = set_config(tokens) {
        return Ok(("set_config", oid::TEXT, value));
    }
    Ok(match &*squeezed(tokens) {
        "null" => (UNNAMED, oid::TEXT, Value::Null),
        "array_to_json(current_schemas(false))" => {
            ("array_to_json", oid::TEXT, text("[\"public\"]"))
        }
        "current_user" | "user" => ("current_user", oid::TEXT, Value::User),
        "session_user" => ("session_user", oid::TEXT, Value::User),
        "current_database()" => ("current_database", oid::TEXT, Value::Database),
        "current_schema" | "current_schema()" => ("current_schema", oid::TEXT, text("public")),
        "version()" => ("version", oid::TEXT, text(super::settings::VERSION)),
        "pg_backend_pid()" => ("pg_backend_pid", oid::INT4, Value::ProcessId),
        "pg_is_in_recovery()" => ("pg_is_in_recovery", oid::TEXT, text("f")),
        _ => return Err(Refused::Unsupported),
    })
}

/// `pg_catalog.set_config('name', 'value', false)`.
fn set_config(tokens: &[Token<'_>]) -> Option<Value> {
    let tokens = match tokens {
        [Token::Word(schema), Token::Symbol('.'), rest @ ..] if schema == "pg_catalog" => rest,
        tokens => tokens,
    };
    let [
        Token::Word(function),
        Token::Symbol('('),
        Token::Text(name),
        Token::Symbol(','),
        Token::Text(value),
        Token::Symbol(','),
        Token::Word(_),
        Token::Symbol(')'),
    ] = tokens
    else {
        return None;
    };
    (function == "set_config").then(|| Value::SetConfig {
        name: name.to_ascii_lowercase(),
        value: value.clone(),
    })
}

fn number_type(number: &str) -> u32 {
    if number.parse::<i32>().is_ok() {
        oid::INT4
    } else if number.parse::<i64>().is_ok() {
        oid::INT8
    } else {
        oid::TEXT
    }
}

fn without_alias<'s, 't>(tokens: &'s [Token<'t>]) -> &'s [Token<'t>] {
    match tokens {
        [inner @ .., Token::Word(as_), Token::Word(_)] if as_ == "as" => inner,
        tokens => tokens,
    }
}

/// `accounts [(columns)] TO STDOUT`, `(SELECT ...) TO STDOUT` or `accounts [(columns)] FROM STDIN`,
/// in the text format.
fn copy(tokens: &[Token<'_>]) -> Result<Command, Refused> {
    if let [Token::Symbol('('), rest @ ..] = tokens {
        let end = closing(rest).ok_or(Refused::Syntax)?;
        let (query, rest) = (rest.get(..end), rest.get(end + 1..));
        ends_with(rest.unwrap_or_default(), "to", "stdout")?;
        let Command::Rows(select) = command(query.unwrap_or_default())? else {
            return Err(Refused::Unsupported);
        };
        return Ok(Command::CopyOut(select));
    }
    let mut rest = skip_table(tokens)?;
    let mut chosen = Field::ALL.to_vec();
    if let [Token::Symbol('('), listed @ ..] = rest {
        let end = closing(listed).ok_or(Refused::Syntax)?;
        chosen = fields(listed.get(..end).unwrap_or_default())?;
        rest = listed.get(end + 1..).unwrap_or_default();
    }
    if ends_with(rest, "from", "stdin").is_ok() {
        return Ok(Command::CopyIn);
    }
    ends_with(rest, "to", "stdout")?;
    Ok(Command::CopyOut(Select {
        fields: chosen,
        keys: Keys::All,
        limit: None,
    }))
}

/// Options other than the text format's are not spoken.
fn ends_with(tokens: &[Token<'_>], direction: &str, place: &str) -> Result<(), Refused> {
    match tokens {
        [Token::Word(first), Token::Word(second), options @ ..]
            if first == direction && second == place =>
        {
            let mut words = options.iter().filter_map(word);
            match words.any(|word| matches!(word, "csv" | "binary")) {
                true => Err(Refused::Unsupported),
                false => Ok(()),
            }
        }
        _ => Err(Refused::Syntax),
    }
}

fn insert(tokens: &[Token<'_>]) -> Result<Command, Refused> {
    let [Token::Word(into), rest @ ..] = tokens else {
        return Err(Refused::Syntax);
    };
    if into != "into" {
        return Err(Refused::Syntax);
    }
    let rest = skip_table(rest)?;
    refuse_returning(rest)?;
    let values = position(rest, "values").map_or(&[][..], |at| rest.get(at..).unwrap_or_default());
    let rows = split(values, ',').len();
    Ok(Command::Insert(u32::try_from(rows).unwrap_or(u32::MAX)))
}

fn on_table(tokens: &[Token<'_>], tag: &'static str) -> Result<Command, Refused> {
    let rest = skip_table(tokens)?;
    refuse_returning(rest)?;
    Ok(Command::Done(tag))
}

fn refuse_returning(tokens: &[Token<'_>]) -> Result<(), Refused> {
    match position(tokens, "returning") {
        Some(_) => Err(Refused::Unsupported),
        None => Ok(()),
    }
}

fn set(tokens: &[Token<'_>]) -> Result<Command, Refused> {
    let tokens = match tokens {
        [Token::Word(scope), rest @ ..] if matches!(&**scope, "session" | "local") => rest,
        tokens => tokens,
    };
    match tokens {
        // SET TRANSACTION, SET SESSION CHARACTERISTICS, SET ROLE, SET TIME ZONE ...
        [Token::Word(what), ..]
            if matches!(
                &**what,
                "transaction"
                    | "characteristics"
                    | "role"
                    | "constraints"
                    | "authorization"
                    | "time"
            ) =>
        {
            Ok(Command::Done("SET"))
        }
        tokens => {
            let (name, rest) = setting_name(tokens)?;
            let value = match rest {
                [Token::Symbol('='), value @ ..] => value,
                [Token::Word(to), value @ ..] if to == "to" => value,
                _ => return Err(Refused::Syntax),
            };
            let value = match value {
                [] => return Err(Refused::Syntax),
                [Token::Word(default)] if default == "default" => None,
                value => Some(setting(value)),
            };
            Ok(Command::Set { name, value })
        }
    }
}

/// A name with its prefix, and what follows it.
fn setting_name<'s, 't>(tokens: &'s [Token<'t>]) -> Result<(String, &'s [Token<'t>]), Refused> {
    let [Token::Word(first), rest @ ..] = tokens else {
        return Err(Refused::Syntax);
    };
    let (mut name, mut rest) = (first.to_string(), rest);
    while let [Token::Symbol('.'), Token::Word(part), more @ ..] = rest {
        name.push('.');
        name.push_str(part);
        rest = more;
    }
    Ok((name, rest))
}

/// A setting's value as SHOW prints it.
fn setting(tokens: &[Token<'_>]) -> String {
    let parts = split(tokens, ',');
    let parts: Vec<String> = parts
        .into_iter()
        .map(|part| match part {
            [Token::Text(text)] => text.clone(),
            part => squeezed(part),
        })
        .collect();
    parts.join(", ")
}

/// Where `keyword` stands outside of parentheses.
fn position(tokens: &[Token<'_>], keyword: &str) -> Option<usize> {
    let mut depth = 0_u32;
    tokens.iter().position(|token| {
        match token {
            Token::Symbol('(') => depth = depth.saturating_add(1),
            Token::Symbol(')') => depth = depth.saturating_sub(1),
            Token::Word(word) => return depth == 0 && word == keyword,
            Token::Number(_) | Token::Text(_) | Token::Parameter(_) | Token::Symbol(_) => {}
        }
        false
    })
}

/// The parenthesis that closes one before `tokens`.
fn closing(tokens: &[Token<'_>]) -> Option<usize> {
    let mut depth = 1_u32;
    tokens.iter().position(|token| {
        match token {
            Token::Symbol('(') => depth = depth.saturating_add(1),
            Token::Symbol(')') => depth = depth.saturating_sub(1),
            Token::Word(_)
            | Token::Number(_)
            | Token::Text(_)
            | Token::Parameter(_)
            | Token::Symbol(_) => {}
        }
        depth == 0
    })
}

/// The parts between `separator` outside of parentheses.
fn split<'s, 't>(tokens: &'s [Token<'t>], separator: char) -> Vec<&'s [Token<'t>]> {
    let mut depth = 0_u32;
    tokens
        .split(|token| {
            match token {
                Token::Symbol('(') => depth = depth.saturating_add(1),
                Token::Symbol(')') => depth = depth.saturating_sub(1),
                Token::Symbol(symbol) => return depth == 0 && *symbol == separator,
                Token::Word(_) | Token::Number(_) | Token::Text(_) | Token::Parameter(_) => {}
            }
            false
        })
        .collect()
}

fn word<'s>(token: &'s Token<'_>) -> Option<&'s str> {
    match token {
        Token::Word(word) => Some(word),
        Token::Number(_) | Token::Text(_) | Token::Parameter(_) | Token::Symbol(_) => None,
    }
}

/// The tokens without what is between them, nor the schema of PostgreSQL's own functions.
fn squeezed(tokens: &[Token<'_>]) -> String {
    let mut out = String::new();
    let mut rest = tokens;
    while let [token, more @ ..] = rest {
        rest = more;
        match token {
            Token::Word(word) => {
                if word == "pg_catalog"
                    && let [Token::Symbol('.'), more @ ..] = rest
                {
                    rest = more;
                    continue;
                }
                out.push_str(word);
            }
            Token::Number(number) => out.push_str(number),
            Token::Text(text) => {
                out.push('\'');
                out.push_str(text);
                out.push('\'');
            }
            Token::Parameter(_) => out.push('$'),
            Token::Symbol(symbol) => out.push(*symbol),
        }
    }
    out
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, Refused> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (token, more) = match first {
            c if c.is_whitespace() => (None, rest.trim_start()),
            '-' if rest.starts_with("--") => {
                (None, rest.split_once('\n').map_or("", |(_, more)| more))
            }
            '/' if rest.starts_with("/*") => (None, comment(rest)?),
            '\'' => {
                let (text, more) = quoted(rest, '\'')?;
                (Some(Token::Text(text)), more)
            }
            '"' => {
                let (name, more) = quoted(rest, '"')?;
                (Some(Token::Word(Cow::Owned(name))), more)
            }
            '$' => dollar(rest)?,
            c if c.is_ascii_digit() => {
                let (number, more) = while_(rest, |c| c.is_ascii_digit() || c == '.');
                (Some(Token::Number(number)), more)
            }
            c if c.is_alphabetic() || c == '_' => {
                let (word, more) = while_(rest, |c| c.is_alphanumeric() || c == '_' || c == '$');
                (Some(Token::Word(lower(word))), more)
            }
            symbol => {
                let more = rest.get(symbol.len_utf8()..).unwrap_or_default();
                (Some(Token::Symbol(symbol)), more)
            }
        };
        tokens.extend(token);
        rest = more;
    }
    Ok(tokens)
}

fn lower(word: &str) -> Cow<'_, str> {
    match word.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(word.to_ascii_lowercase()),
        false => Cow::Borrowed(word),
    }
}

fn while_(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// A comment, which may have others inside.
fn comment(text: &str) -> Result<&str, Refused> {
    let mut depth = 0_u32;
    let mut rest = text;
    loop {
        if let Some(more) = rest.strip_prefix("/*") {
            depth += 1;
            if depth > COMMENTS_MAX {
                return Err(Refused::Unsupported);
            }
            rest = more;
        } else if let Some(more) = rest.strip_prefix("*/") {
            depth = depth.saturating_sub(1);
            rest = more;
            if depth == 0 {
                return Ok(rest);
            }
        } else {
            let mut chars = rest.chars();
            chars.next().ok_or(Refused::Syntax)?;
            rest = chars.as_str();
        }
    }
}

/// A text or a name in its quotes, which stand doubled for themselves.
fn quoted(text: &str, quote: char) -> Result<(String, &str), Refused> {
    let mut out = String::new();
    let mut chars = text.chars();
    chars.next();
    loop {
        match chars.next() {
            None => return Err(Refused::Syntax),
            Some(c) if c == quote => match chars.as_str().strip_prefix(quote) {
                Some(more) => {
                    out.push(quote);
                    chars = more.chars();
                }
                None => return Ok((out, chars.as_str())),
            },
            Some(c) => out.push(c),
        }
    }
}

/// `$1`, or a text between dollar quotes.
fn dollar(text: &str) -> Result<(Option<Token<'_>>, &str), Refused> {
    let rest = text.get(1..).unwrap_or_default();
    let (digits, more) = while_(rest, |c| c.is_ascii_digit());
    if !digits.is_empty() {
        let number: u16 = digits.parse().map_err(|_| Refused::Unsupported)?;
        let known = (1..=ITEMS_MAX).contains(&usize::from(number));
        return match known {
            true => Ok((Some(Token::Parameter(number)), more)),
            false => Err(Refused::Unsupported),
        };
    }
    let (tag, more) = while_(rest, |c| c.is_alphanumeric() || c == '_');
    let begin = more.strip_prefix('$').ok_or(Refused::Syntax)?;
    let (inner, more) = begin
        .split_once(&format!("${tag}$"))
        .ok_or(Refused::Syntax)?;
    Ok((Some(Token::Text(inner.to_owned())), more))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Command, Refused> {
        let mut commands = read(text.as_bytes())?;
        assert_eq!(commands.len(), 1, "{text}");
        Ok(commands.remove(0))
    }

    fn rows(text: &str) -> Select {
        match one(text) {
            Ok(Command::Rows(select)) => select,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn rows_are_found_by_id() {
        let find = |text: &str| rows(text).keys;
        let number = Operand::Number;
        let first = Operand::Parameter(1);
        assert_eq!(find("SELECT * FROM accounts"), Keys::All);
        assert_eq!(
            find("select id, name from public.accounts a where a.id = 42 /* 7 */"),
            Keys::One(number(42))
        );
        assert_eq!(
            find("SELECT id FROM accounts WHERE id = $1::int"),
            Keys::One(first)
        );
        assert_eq!(
            find("SELECT id FROM accounts WHERE id <= $1 ORDER BY id"),
            Keys::UpTo(first)
        );
        assert_eq!(
            find("SELECT id FROM accounts WHERE id BETWEEN 2 AND $1 LIMIT 3"),
            Keys::Between(number(2), first)
        );
        assert_eq!(rows("SELECT id FROM accounts LIMIT 3").limit, Some(3));
        assert_eq!(rows("SELECT * FROM accounts").fields, Field::ALL);
        assert_eq!(
            rows("SELECT a.email AS x, id FROM accounts AS a").fields,
            [Field::Email, Field::Id]
        );
    }

    #[test]
    fn what_is_not_known_is_refused_and_not_guessed() {
        for (text, expected) in [
            ("!refused by sallyport", Refused::Syntax),
            ("SELEC 1", Refused::Syntax),
            ("SELECT 'open", Refused::Syntax),
            ("SELECT 1 /* open", Refused::Syntax),
            ("SELECT * FROM customers", Refused::NoSuchTable),
            ("SELECT password FROM accounts", Refused::NoSuchColumn),
            (
                "SELECT id FROM accounts WHERE name = 'x'",
                Refused::Unsupported,
            ),
            (
                "SELECT id FROM accounts WHERE id = 1 OR id = 2",
                Refused::Unsupported,
            ),
            ("SELECT upper(name) FROM accounts", Refused::Unsupported),
            (
                "SELECT id FROM accounts, accounts AS b",
                Refused::Unsupported,
            ),
            (
                "SELECT id FROM accounts ORDER BY name",
                Refused::Unsupported,
            ),
            (
                "INSERT INTO accounts VALUES (1) RETURNING id",
                Refused::Unsupported,
            ),
            ("COPY accounts TO STDOUT (FORMAT csv)", Refused::Unsupported),
        ] {
            assert_eq!(one(text), Err(expected), "{text}");
        }
        assert_eq!(read(b"SELECT '\xff'"), Err(Refused::NotUtf8));
    }

    #[test]
    fn semicolons_separate_statements_outside_of_quotes() {
        let text = b"; BEGIN; SET a.b = 'x;y'; SELECT $q$;$q$, \";\"; COMMIT;";
        assert_eq!(read(text), Err(Refused::Unsupported), "a quoted name");
        let commands = read(b"; BEGIN; SET a.b = 'x;y'; SELECT $q$;$q$ ; COMMIT;").unwrap();
        assert_eq!(commands.len(), 4);
        assert_eq!(
            commands[1],
            Command::Set {
                name: "a.b".to_owned(),
                value: Some("x;y".to_owned())
            }
        );
        assert_eq!(read(b" -- nothing\n;;").unwrap(), []);
    }

    #[test]
    fn sallyports_own_questions_are_known() {
        let path =
            "SELECT pg_catalog.array_to_json(pg_catalog.current_schemas(false)), current_user";
        let Ok(Command::Values { items, .. }) = one(path) else {
            panic!("not values")
        };
        assert_eq!(items[0].value, Value::Text("[\"public\"]".to_owned()));
        assert_eq!(items[1].value, Value::User);
        let restored = "SELECT pg_catalog.set_config('application_name', 'corp/bot', false)";
        let Ok(Command::Values { items, .. }) = one(restored) else {
            panic!("not values")
        };
        assert!(matches!(items[0].value, Value::SetConfig { .. }));
    }

    #[test]
    fn parameters_have_the_type_of_what_they_are_compared_with() {
        let types = |text: &str| parameters(&one(text).unwrap());
        assert_eq!(types("SELECT * FROM accounts WHERE id = $1"), [oid::INT4]);
        assert_eq!(types("SELECT $2, $1::int"), [oid::INT4, oid::TEXT]);
        assert!(types("SELECT 1").is_empty());
    }
}
