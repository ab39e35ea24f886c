// Reads the pages named on the command line with Harper, a grammar checker that works offline: `make prose`.
// Prints each finding as FILE:LINE: RULE: MESSAGE [TEXT]; the exit code is 1 when there is one.
import fs from 'node:fs';

const harper = new URL('../build/prose/node_modules/harper.js/dist/', import.meta.url);
const {LocalLinter, Dialect} = await import(new URL('index.js', harper));
const {binaryInlined} = await import(new URL('binaryInlined.js', harper));

// Rules that find nothing but technical terms, units, cells of tables and a comma that the Kubernetes docs leave out too.
const OFF = [
  'SpellCheck', 'SplitWords', 'MergeWords', 'CompoundNouns', 'DisjointPrefixes', 'PhrasalVerbAsCompoundNoun', 'OrthographicConsistency',
  'ExpandMemoryShorthands', 'ExpandTimeShorthands', 'ExpandControl', 'OkToOkay', 'MassNouns',
  'UseTitleCase', 'SentenceCapitalization', 'MissingDeterminer', 'MissingPreposition', 'MissingTo', 'PronounInflectionBe', 'ThatThan', 'OxfordComma',
];

const linter = new LocalLinter({binary: binaryInlined, dialect: Dialect.American});
await linter.setup();
let found = 0;
for (const file of process.argv.slice(2)) {
  const text = fs.readFileSync(file, 'utf8');
  for (const [rule, lints] of Object.entries(await linter.organizedLints(text, {language: 'markdown'}))) {
    if (OFF.includes(rule)) continue;
    for (const lint of lints) {
      const line = text.slice(0, lint.span().start).split('\n').length;
      console.log(`${file}:${line}: ${rule}: ${lint.message()} [${lint.get_problem_text().replaceAll('\n', ' ')}]`);
      found += 1;
    }
  }
}
console.log(`${process.argv.length - 2} pages, ${found} findings`);
process.exit(found ? 1 : 0);
