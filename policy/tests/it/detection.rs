//! How much of what is sensitive is found, and how much of what is found is sensitive: a labelled
//! set of thousands of made-up values and near misses for each detector.
//!
//! `cargo test -p policy --test it detection -- --nocapture` prints the table of `docs/masking.md`.

use policy::mask::detect::{DetectorSet, Format, KINDS, Scanner, Wanted};

/// Values, and near misses, of each kind.
const EACH: usize = 3000;

/// What each detector has to reach, in values of a thousand: recall, precision.
const FLOORS: &[(&str, u32, u32)] = &[
    ("payment-card", 995, 985),
    ("us-ssn", 995, 990),
    ("email", 975, 990),
    ("iban", 995, 990),
    ("phone", 965, 990),
    ("ipv4", 995, 970),
    ("ipv6", 995, 990),
    ("jwt", 995, 995),
    ("private-key", 995, 995),
    ("api-key", 995, 995),
    ("credential", 875, 990),
];

#[test]
fn every_detector_finds_what_it_should_and_little_else() {
    println!("| detector | recall | precision | missed | false alarms |");
    println!("|---|---|---|---|---|");
    let mut short = Vec::new();
    for named in KINDS {
        let name = named.name;
        let (_, recall_floor, precision_floor) = FLOORS
            .iter()
            .find(|(floor, ..)| *floor == name)
            .unwrap_or_else(|| panic!("{name} has no floor"));
        let score = score(name);
        let recall = per_mille(score.found, EACH);
        let precision = per_mille(score.found, score.found + score.false_alarms);
        println!(
            "| `{name}` | {}.{} % | {}.{} % | {} | {} |",
            recall / 10,
            recall % 10,
            precision / 10,
            precision % 10,
            EACH - score.found,
            score.false_alarms
        );
        if recall < *recall_floor || precision < *precision_floor {
            short.push((name, recall, precision, score.examples));
        }
    }
    assert!(short.is_empty(), "{short:#?}");
}

struct Score {
    found: usize,
    false_alarms: usize,
    examples: Vec<String>,
}

fn score(name: &str) -> Score {
    let set = DetectorSet::compile(&[Wanted {
        detect: &[name],
        ..Wanted::default()
    }])
    .expect("a kind");
    let mut random = Random(0x5eed_0000 + u64::try_from(name.len()).expect("small"));
    let mut scanner = Scanner::default();
    let mut score = Score {
        found: 0,
        false_alarms: 0,
        examples: Vec::new(),
    };
    let mut example = |what: &str, text: &str| {
        if score.examples.len() < 40 {
            score.examples.push(format!("{what}: {text}"));
        }
    };
    for _ in 0..EACH {
        let value = value(name, &mut random);
        let (text, start) = around(name, &value, &mut random);
        // A word that announces a number is not sensitive itself.
        let word = value.find(|c: char| name != "us-ssn" || c.is_ascii_digit());
        let planted = start + word.unwrap_or(0)..start + value.len();
        let found = scanner.find(&set, text.as_bytes(), Format::Text);
        let covers =
            |span: &std::ops::Range<usize>| span.start <= planted.start && span.end >= planted.end;
        if found.iter().any(|found| covers(&found.span)) {
            score.found += 1;
        } else {
            example("missed", &text);
        }
        let apart =
            |span: &std::ops::Range<usize>| span.end <= planted.start || span.start >= planted.end;
        score.false_alarms += found.iter().filter(|found| apart(&found.span)).count();

        let miss = near_miss(name, &mut random);
        let (text, _) = around("", &miss, &mut random);
        let found = scanner.find(&set, text.as_bytes(), Format::Text).len();
        score.false_alarms += found;
        if found > 0 {
            example("false alarm", &text);
        }
    }
    score
}

fn per_mille(part: usize, whole: usize) -> u32 {
    u32::try_from(part * 1000 / whole.max(1)).expect("at most a thousand")
}

/// A field that holds `value`, and where.
fn around(name: &str, value: &str, random: &mut Random) -> (String, usize) {
    // Keys stand with their values already.
    let frames: &[(&str, &str)] = match name {
        "credential" => {
            let (before, after) = *random.pick(CREDENTIAL_FRAMES);
            return (format!("{before}{value}{after}"), before.len());
        }
        "private-key" => &[("", ""), ("key:\n", "\n"), ("{\"private_key\": \"", "\"}")],
        _ => FRAMES,
    };
    let (before, after) = *random.pick(frames);
    (format!("{before}{value}{after}"), before.len())
}

const FRAMES: &[(&str, &str)] = &[
    ("", ""),
    ("", ""),
    ("Customer wrote: ", ", please call back."),
    ("{\"note\": \"", "\", \"count\": 3}"),
    ("ref 48213 / ", " / 2026-11-26 10:26:19"),
    ("a;b;", ";c"),
    ("<td>", "</td>"),
    ("(", ")"),
    ("line one\\n", "\\nline three"),
    ("value=", ""),
    ("\u{e9}t\u{e9} ", "."),
    ("see ", " and others"),
];

const CREDENTIAL_FRAMES: &[(&str, &str)] = &[
    ("password=", ""),
    ("{\"password\": \"", "\", \"user\": \"alice\"}"),
    ("DB_PASSWORD=", "\n"),
    ("Server=db;User Id=app;Pwd=", ";Timeout=3"),
    ("client_secret: ", ""),
    ("\"apiKey\": \"", "\""),
    ("X-Api-Key: ", "\r\n"),
    ("Authorization: Bearer ", ""),
    ("access_token=", "&scope=all"),
    ("ALTER ROLE app PASSWORD '", "'"),
    ("postgres://app:", "@db.internal:5432/orders"),
    ("<password>", "</password>"),
    ("passphrase = \"", "\""),
    ("my password is ", ""),
    ("use this password to log in: ", ""),
];

fn value(name: &str, random: &mut Random) -> String {
    match name {
        "payment-card" => card(random),
        "us-ssn" => ssn(random),
        "email" => email(random),
        "iban" => iban(random),
        "phone" => phone(random),
        "ipv4" => {
            let [a, b, c, d] = [0; 4].map(|_| random.below(256));
            format!("{}.{b}.{c}.{d}", a.max(1))
        }
        "ipv6" => ipv6(random),
        "jwt" => {
            let header = random.pick(&[
                "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
                "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEyMyJ9",
                "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9",
                "eyJraWQiOiJhYmMiLCJhbGciOiJFZERTQSJ9",
                "eyJlbmMiOiJBMjU2R0NNIiwiYWxnIjoiZGlyIn0",
            ]);
            let (payload, signature) = (random.below(300) + 20, random.below(300) + 43);
            format!(
                "{header}.eyJ{}.{}",
                random.text(payload, URL),
                random.text(signature, URL)
            )
        }
        "private-key" => {
            let label = random.pick(&["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "]);
            let line = *random.pick(&["\n", "\\n"]);
            let mut key = format!("-----BEGIN {label}PRIVATE KEY-----{line}");
            for _ in 0..random.below(30) + 1 {
                key.push_str(&random.text(64, BASE64));
                key.push_str(line);
            }
            if random.below(10) > 0 {
                key.push_str(&format!("-----END {label}PRIVATE KEY-----"));
            }
            key
        }
        "api-key" => api_key(random),
        "credential" => credential(random),
        other => panic!("{other} has no values"),
    }
}

fn card(random: &mut Random) -> String {
    // Issuers and lengths as they are sold in numbers, some rarer ones.
    let (prefix, length) = *random.pick(&[
        ("4", 16),
        ("4", 16),
        ("4", 13),
        ("4", 19),
        ("51", 16),
        ("53", 16),
        ("55", 16),
        ("2221", 16),
        ("2590", 16),
        ("34", 15),
        ("37", 15),
        ("6011", 16),
        ("65", 16),
        ("36", 14),
        ("3530", 16),
        ("62", 16),
        ("62", 19),
        ("5018", 12),
        ("6759", 16),
        ("2202", 16),
        ("6071", 16),
        ("9792", 16),
    ]);
    let mut digits = prefix.to_owned();
    digits.push_str(&random.text(length - 1 - prefix.len(), DIGITS));
    digits.push(luhn_digit(&digits));
    let groups: &[usize] = match length {
        15 => &[4, 6, 5],
        14 => &[4, 6, 4],
        19 => &[4, 4, 4, 4, 3],
        13 => &[4, 3, 3, 3],
        12 => &[4, 4, 4],
        _ => &[4, 4, 4, 4],
    };
    match random.below(5) {
        0 | 1 => digits,
        2 | 3 => grouped(&digits, groups, " "),
        _ => grouped(&digits, groups, "-"),
    }
}

fn luhn_digit(digits: &str) -> char {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, byte)| {
            let digit = u32::from(byte - b'0');
            match place % 2 {
                0 if digit > 4 => digit * 2 - 9,
                0 => digit * 2,
                _ => digit,
            }
        })
        .sum();
    char::from_digit((10 - sum % 10) % 10, 10).expect("a digit")
}

fn grouped(text: &str, groups: &[usize], separator: &str) -> String {
    let mut rest = text;
    let mut out = Vec::new();
    for size in groups {
        let (head, tail) = rest.split_at(*size);
        out.push(head);
        rest = tail;
    }
    assert!(rest.is_empty());
    out.join(separator)
}

fn ssn(random: &mut Random) -> String {
    let area = loop {
        let area = random.below(899) + 1;
        if area != 666 {
            break area;
        }
    };
    let (group, serial) = (random.below(99) + 1, random.below(9999) + 1);
    match random.below(20) {
        0..14 => format!("{area:03}-{group:02}-{serial:04}"),
        14..18 => format!("{area:03} {group:02} {serial:04}"),
        18 => format!("SSN: {area:03}{group:02}{serial:04}"),
        _ => format!("ssn={area:03}{group:02}{serial:04}"),
    }
}

fn email(random: &mut Random) -> String {
    let name = *random.pick(&[
        "alice",
        "bob.smith",
        "o'brien",
        "j_doe",
        "info+news",
        "m\u{fc}ller",
        "x",
        "user123",
    ]);
    let host = *random.pick(&[
        "example",
        "mail.example",
        "sub-domain.example",
        "b\u{fc}cher",
        "a1",
    ]);
    let top = *random.pick(&["com", "org", "co.uk", "de", "io", "museum", "xn--p1ai"]);
    match random.below(50) {
        // Legal, rare: nobody's form accepts it.
        0 => format!("\"{name} x\"@{host}.{top}"),
        _ => format!("{name}{}@{host}.{top}", random.below(1000)),
    }
}

fn iban(random: &mut Random) -> String {
    let (country, form) = *random.pick(&[
        ("DE", "999999999999999999"),
        ("GB", "AAAA99999999999999"),
        ("FR", "9999999999CCCCCCCCCCC99"),
        ("NL", "AAAA9999999999"),
        ("ES", "99999999999999999999"),
        ("IT", "A9999999999CCCCCCCCCCCC"),
        ("NO", "99999999999"),
        ("CH", "99999CCCCCCCCCCCC"),
        ("PL", "999999999999999999999999"),
        ("SA", "99CCCCCCCCCCCCCCCCCC"),
        ("MT", "AAAA99999CCCCCCCCCCCCCCCCCC"),
    ]);
    let account = form
        .chars()
        .map(|class| match class {
            '9' => random.text(1, DIGITS),
            'A' => random.text(1, UPPER),
            _ => random.text(1, UPPER_DIGITS),
        })
        .collect::<String>();
    let remainder = |text: &str| {
        text.chars().fold(0u64, |remainder, character| {
            let value = u64::from(character.to_digit(36).expect("a letter or digit"));
            let scale = if value > 9 { 100 } else { 10 };
            (remainder * scale + value) % 97
        })
    };
    let check = 98 - remainder(&format!("{account}{country}00"));
    let iban = format!("{country}{check:02}{account}");
    match random.below(20) {
        0..9 => iban,
        9..18 => iban
            .as_bytes()
            .chunks(4)
            .map(|group| String::from_utf8_lossy(group).into_owned())
            .collect::<Vec<_>>()
            .join(" "),
        18 => iban.to_lowercase(),
        // As some write it: the country apart.
        _ => format!("{} {}", &iban[..4], &iban[4..]),
    }
}

fn phone(random: &mut Random) -> String {
    let form = *random.pick(&[
        "+1NYXN######",
        "+1 (NYX) N##-####",
        "+1-NYX-N##-####",
        "+1 NYX N## ####",
        "(NYX) N##-####",
        "NYX-N##-####",
        "NYX.N##.####",
        "NYX N## ####",
        "1-NYX-N##-####",
        "+44 20 7N## ####",
        "+44 7N## ######",
        "+447N########",
        "020 7N## ####",
        "07N## ######",
        "07N########",
        "0161 496 0###",
        "+49 30 N#######",
        "+49 (0)171 N######",
        "030 N#######",
        "0171 N######",
        "0171/N######",
        "+33 6 ## ## ## ##",
        "06 ## ## ## ##",
        "06.##.##.##.##",
        "06########",
        "+34 6N# ### ###",
        "+39 06 N### ####",
        "+81 3-N###-####",
        "+91 9N### #####",
        "+61 2 N### ####",
        "+55 11 9N###-####",
        "+46-8-N## ### ##",
        "0049 171 N######",
        "NYXN###### ext. 12",
    ]);
    form.chars()
        .map(|class| match class {
            '#' => random.text(1, DIGITS),
            'Y' => random.text(1, b"012345678"),
            'N' => random.text(1, b"23456789"),
            'X' => random.text(1, b"2345678"),
            other => other.to_string(),
        })
        .collect()
}

fn ipv6(random: &mut Random) -> String {
    let mut group = || format!("{:x}", random.below(65536));
    let groups = [0; 8].map(|_| group());
    match random.below(5) {
        0 | 1 => groups.join(":"),
        2 => format!("2001:db8::{}", groups[0]),
        3 => format!("fe80::{}:{}:{}", groups[0], groups[1], groups[2]),
        _ => format!("{}:{}::{}:{}", groups[0], groups[1], groups[2], groups[3]),
    }
}

fn api_key(random: &mut Random) -> String {
    let (prefix, length, alphabet) = *random.pick::<(&str, usize, &[u8])>(&[
        ("AKIA", 16, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
        ("ASIA", 16, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
        ("AIza", 35, URL),
        ("GOCSPX-", 28, URL),
        ("ya29.a0", 120, URL),
        ("ghp_", 36, ALNUM),
        ("gho_", 36, ALNUM),
        ("github_pat_11", 80, ALNUM),
        ("glpat-", 20, URL),
        ("xoxb-123456789012-1234567890123-", 24, ALNUM),
        (
            "xoxp-123456789012-123456789012-123456789012-",
            32,
            b"0123456789abcdef",
        ),
        ("sk_live_", 24, ALNUM),
        ("sk_test_", 99, ALNUM),
        ("rk_live_", 24, ALNUM),
        ("whsec_", 32, ALNUM),
        ("sk-proj-", 48, ALNUM),
        ("npm_", 36, ALNUM),
        ("abc8Q~", 34, ALNUM),
        ("hf_", 34, ALNUM),
        ("SG.abcdefghijklmnopqrstuv.", 43, URL),
    ]);
    let mut key = format!("{prefix}{}", random.text(length, alphabet));
    // A key that ends so is cut there by every reader of text.
    while key.ends_with(['-', '_']) {
        key.pop();
        key.push('a');
    }
    key
}

fn credential(random: &mut Random) -> String {
    let length = random.below(20) + 20;
    match random.below(10) {
        0..5 => random.text(length, ALNUM),
        5..7 => random.text(32, b"0123456789abcdef"),
        7 => format!(
            "{}{}!{}",
            random.pick(&["Summer", "hunter", "Tr0ub4dor"]),
            random.below(10_000),
            random.text(12, ALNUM)
        ),
        8 => random.text(40, BASE64),
        // Nothing tells that it is not a word.
        _ => (*random.pick(&[
            "letmein",
            "correcthorsebatterystaple",
            "trustno1trustno1",
            "dragon",
        ]))
        .to_owned(),
    }
}

fn near_miss(name: &str, random: &mut Random) -> String {
    let number = random.below(1 << 30);
    match name {
        "payment-card" => match random.below(9) {
            0 => random.text(16, DIGITS),
            1 => format!("ORD-{}", random.text(12, DIGITS)),
            2 => format!("17{}", random.text(11, DIGITS)),
            3 => format!("17{}", random.text(17, DIGITS)),
            4 => format!("1{}", random.text(18, DIGITS)),
            5 => uuid(random),
            6 => random.text(40, HEX),
            7 => format!("0.{}", random.text(16, DIGITS)),
            _ => format!("1Z{}", random.text(16, UPPER_DIGITS)),
        },
        "us-ssn" => match random.below(7) {
            0 => format!("{}-{}", random.text(5, DIGITS), random.text(4, DIGITS)),
            1 => format!(
                "2026-{:02}-{:02}",
                random.below(12) + 1,
                random.below(28) + 1
            ),
            2 => format!(
                "9{}-{}-{}",
                random.text(2, DIGITS),
                random.text(2, DIGITS),
                random.text(4, DIGITS)
            ),
            3 => format!(
                "{}-{}-{}",
                random.text(3, DIGITS),
                random.text(7, DIGITS),
                random.text(7, DIGITS)
            ),
            4 => random.text(9, DIGITS),
            5 => format!(
                "978-{}-{}-{}",
                random.below(10),
                random.text(5, DIGITS),
                random.text(4, DIGITS)
            ),
            _ => phone(random),
        },
        "email" => (*random.pick(&[
            "@app.route('/x')",
            "user@localhost",
            "react@18.2.0",
            "@types/node@20.1",
            "icon@2x.png",
            "git@github.com:org/repo.git",
            "@alice",
            "meet @ noon",
            "a@b",
            "x = y @ z.T",
            "root@db-1:~$",
            "@Override",
        ]))
        .to_owned(),
        "iban" => match random.below(6) {
            0 => format!("DE{}", random.text(20, DIGITS)),
            1 => format!(
                "GB{} NWBK {} {} {}",
                random.text(2, DIGITS),
                random.text(4, DIGITS),
                random.text(4, DIGITS),
                random.text(4, DIGITS)
            ),
            2 => uuid(random),
            3 => format!("RR{}DE", random.text(9, DIGITS)),
            4 => random.text(17, UPPER_DIGITS),
            _ => random.text(40, HEX),
        },
        "phone" => match random.below(12) {
            0 => random.text(10, DIGITS),
            1 => format!("17{}", random.text(8, DIGITS)),
            2 => format!("2026-11-26 10:26:19.{}+02", random.text(6, DIGITS)),
            3 => format!("192.168.{}.{}", random.below(256), random.below(256)),
            4 => format!(
                "978-0-{}-{}-{}",
                random.text(3, DIGITS),
                random.text(5, DIGITS),
                random.below(10)
            ),
            5 => format!("{}.{}", random.text(3, DIGITS), random.text(6, DIGITS)),
            6 => card(random),
            7 => format!("+{}", random.below(1000)),
            8 => format!(
                "{:02}.{:02}.2026",
                random.below(28) + 1,
                random.below(12) + 1
            ),
            9 => uuid(random),
            10 => format!(
                "{}-{}-{}",
                random.text(3, DIGITS),
                random.text(2, DIGITS),
                random.text(4, DIGITS)
            ),
            _ => format!("0000{}", random.text(6, DIGITS)),
        },
        "ipv4" => match random.below(8) {
            0 => format!(
                "v{}.{}.{}.{}",
                random.below(20),
                random.below(20),
                random.below(99),
                random.below(99)
            ),
            1 => format!(
                "version {}.{}.{}.{}",
                random.below(20),
                random.below(20),
                random.below(99),
                random.below(99)
            ),
            2 => format!(
                "{}.{}.{}",
                random.below(20),
                random.below(20),
                random.below(99)
            ),
            3 => format!("1.3.6.1.4.1.{}", random.below(9999)),
            4 => format!("{}.{:02}", number, random.below(100)),
            5 => format!(
                "{}.{}.{}.{}-rc1",
                random.below(20),
                random.below(20),
                random.below(99),
                random.below(99)
            ),
            6 => format!("{}.{}.2026", random.below(28) + 1, random.below(12) + 1),
            // Nothing tells the number of a section from an address.
            _ if random.below(10) == 0 => format!(
                "section {}.{}.{}.{}",
                random.below(9) + 1,
                random.below(9),
                random.below(9),
                random.below(9)
            ),
            _ => format!(
                "Chrome/{}.0.{}.{}",
                random.below(120),
                random.below(9000),
                random.below(200)
            ),
        },
        "ipv6" => match random.below(7) {
            0 => format!(
                "{:02}:{:02}:{:02}",
                random.below(24),
                random.below(60),
                random.below(60)
            ),
            1 => [0; 6]
                .map(|_| format!("{:02x}", random.below(256)))
                .join(":"),
            2 => "'x'::text".to_owned(),
            3 => "std::vector<int>".to_owned(),
            4 => [0; 20]
                .map(|_| format!("{:02X}", random.below(256)))
                .join(":"),
            5 => format!("{}:{}", random.below(99), random.below(99)),
            _ => "{\"a\":1,\"b\":2,\"c\":3}".to_owned(),
        },
        "jwt" => match random.below(5) {
            0 => format!("eyJ{}", random.text(60, URL)),
            1 => format!(
                "{}.{}.{}",
                random.text(20, URL),
                random.text(40, URL),
                random.text(40, URL)
            ),
            2 => "eyJub3QiOiJhIGhlYWRlciJ9.eyJhIjoxfQ".to_owned(),
            3 => format!("com.example.{}.Service", random.text(12, b"abcdefgh")),
            _ => random.text(64, BASE64),
        },
        "private-key" => match random.below(4) {
            0 => format!(
                "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----",
                random.text(64, BASE64)
            ),
            1 => format!(
                "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----",
                random.text(64, BASE64)
            ),
            2 => "A file that starts with -----BEGIN PRIVATE KEY----- is secret".to_owned(),
            _ => format!("ssh-ed25519 {}", random.text(68, BASE64)),
        },
        "api-key" => match random.below(9) {
            0 => random.text(40, HEX),
            1 => random.text(64, HEX),
            2 => uuid(random),
            3 => random.text(200, BASE64),
            4 => format!("pk_live_{}", random.text(24, ALNUM)),
            5 => "sk_buff_allocation_failures_total".to_owned(),
            6 => format!("sk-{}", random.below(99999)),
            7 => random.text(24, URL),
            _ => format!("AKIA{}", random.text(8, b"abcdefgh")),
        },
        "credential" => match random.below(4) {
            0 => format!(
                "password_changed_at: 2026-11-26T10:26:{:02}Z",
                random.below(60)
            ),
            1 => format!("\"token_count\": {}", random.text(16, DIGITS)),
            2 => format!(
                "secretary: {}{}",
                random.pick(&["Alice", "Bob"]),
                random.below(1000)
            ),
            _ => (*random.pick(&[
                "password: required",
                "Your password must have 12 characters",
                "the secret: be early",
                "{\"password\": null, \"token\": \"\"}",
                "password=${DB_PASSWORD}",
                "password=<your password>",
                "password=********",
                "token_type=bearer",
                "the bearer of this letter",
                "api_key: str = None",
                "forgot password? reset",
                "https://example.com/reset-password?lang=en",
                "password_policy: at-least-12-characters",
                "secret santa: 24 December",
                "tokens: 4096",
                "Authorization required",
                "{\"passwordHint\": \"name of the first dog 2\"}",
                "def check_password(self, password):",
                "credentials: \"include\"",
            ]))
            .to_owned(),
        },
        other => panic!("{other} has no near misses"),
    }
}

fn uuid(random: &mut Random) -> String {
    grouped(&random.text(32, HEX), &[8, 4, 4, 4, 12], "-")
}

const DIGITS: &[u8] = b"0123456789";
const HEX: &[u8] = b"0123456789abcdef";
const UPPER: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const UPPER_DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const ALNUM: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const URL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Xorshift: the same set on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).expect("a 64-bit machine") % bound
    }

    fn pick<'p, T>(&mut self, from: &'p [T]) -> &'p T {
        &from[self.below(from.len())]
    }

    fn text(&mut self, length: usize, alphabet: &[u8]) -> String {
        (0..length)
            .map(|_| char::from(*self.pick(alphabet)))
            .collect()
    }
}
