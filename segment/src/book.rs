//! The tables of the book's pages on layouts, for the tests that compare them with the code.

/// A table of the page on segments: see [`table_of`].
#[allow(dead_code)] // Not every crate that has these tables has one of each kind.
pub(crate) fn table(heading: &str, nth: usize) -> Vec<Vec<String>> {
    table_of(include_str!("../../docs/src/segment-layout.md"), heading, nth)
}

/// The cells of the `nth` table below a heading of a page, row by row, without the head. Marks are
/// taken off: `1,024` is 1024, and `` `x` `` is x.
pub(crate) fn table_of(page: &str, heading: &str, nth: usize) -> Vec<Vec<String>> {
    let heading = format!("## {heading}");
    let section = page.lines().skip_while(|line| *line != heading).skip(1);
    let section = section.take_while(|line| !line.starts_with("## "));
    let mut tables: Vec<Vec<Vec<String>>> = Vec::new();
    let mut inside = false;
    for line in section {
        let row = line.strip_prefix('|').and_then(|line| line.strip_suffix('|'));
        if let Some(row) = row {
            if !inside {
                tables.push(Vec::new());
            }
            tables.last_mut().expect("a table has begun").push(row.split('|').map(plain).collect());
        }
        inside = row.is_some();
    }
    let mut rows = tables.into_iter().nth(nth).unwrap_or_else(|| panic!("no table: {heading}"));
    assert!(rows.len() > 2, "the table is empty: {heading}");
    rows.drain(..2);
    rows
}

fn plain(cell: &str) -> String {
    let cell = cell.trim().replace('`', "");
    if cell.chars().all(|c| c.is_ascii_digit() || c == ',') { cell.replace(',', "") } else { cell }
}

/// A number as the page writes it: 16 or 0x10.
pub(crate) fn number(cell: &str) -> usize {
    let parsed = match cell.strip_prefix("0x") {
        Some(digits) => usize::from_str_radix(digits, 16),
        None => cell.parse(),
    };
    parsed.unwrap_or_else(|_| panic!("not a number: {cell}"))
}

/// The columns asked for, of every row.
#[allow(dead_code)]
pub(crate) fn columns<const N: usize>(rows: &[Vec<String>], which: [usize; N]) -> Vec<[String; N]> {
    rows.iter().map(|row| which.map(|column| row[column].clone())).collect()
}

/// Compares a table of offset, size and name with the fields of a structure of `size` bytes. That
/// the fields leave no gap shows that none is missing.
#[allow(dead_code)]
pub(crate) fn compare_fields(rows: &[Vec<String>], fields: &[(&str, usize, usize)], size: usize) {
    let mut end = 0;
    for (name, offset, bytes) in fields {
        assert_eq!(*offset, end, "a field before {name} is missing in the test");
        end += bytes;
    }
    assert_eq!(end, size, "a field at the end is missing in the test");
    let written: Vec<[String; 3]> = columns(rows, [0, 1, 2]);
    let found: Vec<[String; 3]> = fields
        .iter()
        .map(|(name, offset, bytes)| [offset.to_string(), bytes.to_string(), (*name).to_owned()])
        .collect();
    assert_eq!(written, found);
}

/// A field of a word by the bits that the page gives it, as `31..16`.
#[allow(dead_code)]
pub(crate) fn bits(range: &str, word: u64) -> u64 {
    let (high, low) = range.split_once("..").expect("bits are written as 31..16");
    let (high, low) = (number(high), number(low));
    assert!(high >= low && high < 64);
    word >> low & (u64::MAX >> (63 - (high - low)))
}

/// Checks that the bits of a word's fields, from the top, leave no gap.
#[allow(dead_code)]
pub(crate) fn cover_a_word<'a>(ranges: impl IntoIterator<Item = &'a str>) {
    let mut next = 63;
    for range in ranges {
        let (high, low) = range.split_once("..").expect("bits are written as 31..16");
        assert_eq!(number(high) as isize, next, "{range}");
        next = number(low) as isize - 1;
    }
    assert_eq!(next, -1);
}
