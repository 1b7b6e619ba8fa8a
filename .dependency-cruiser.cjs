/** Layers: a folder may import from those listed before it, never from those after. */
const layers = [
  ['schemas'],
  ['privacy', 'measures', 'datasets', 'learning'],
  ['compiler'],
  ['stack/paths'],
  ['store', 'tracking'],
  ['activities', 'workflows'],
  ['stack'],
  ['cli'],
];

const folder = (names) => `^(${names.join('|')})(/|\\.ts$)`;
const isPaths = '^stack/paths\\.ts$';

const upward = layers.slice(0, -1).map((names, level) => ({
  name: `no-upward-import-from-${names[0].replace('/', '-')}`,
  comment: 'Lower layers know nothing of higher ones.',
  severity: 'error',
  from: { path: folder(names), pathNot: names.includes('stack') ? isPaths : undefined },
  to: { path: folder(layers.slice(level + 1).flat()), pathNot: isPaths },
}));

module.exports = {
  forbidden: [
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    { name: 'no-unresolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
    ...upward,
    {
      name: 'pure-layers-know-no-services',
      comment: 'Privacy, measures, compiler, learning, datasets and schemas run without Temporal and MLflow.',
      severity: 'error',
      from: { path: '^(schemas|privacy|measures|compiler|learning|datasets)/' },
      to: { path: '@temporalio/|^tracking/' },
    },
    {
      name: 'workflows-are-pure',
      comment: 'Workflow code is replayed: it imports no Node module and no package but the workflow API.',
      severity: 'error',
      from: { path: '^workflows/' },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'workflows-import-only-pure-code',
      severity: 'error',
      from: { path: '^workflows/' },
      to: { path: '^(activities|store|tracking|stack|cli|learning|datasets)/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'product-does-not-import-tests',
      severity: 'error',
      from: { pathNot: '^(test|bench)/' },
      to: { path: '^(test|bench)/', dependencyTypesNot: ['npm-dev'] },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(node_modules|\\.epsilonflow)/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      extensions: ['.ts', '.mjs', '.js', '.json'],
      conditionNames: ['import', 'require', 'node', 'default'],
    },
  },
};
