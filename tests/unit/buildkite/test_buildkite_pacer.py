"""When requests go: within the quota, without delay beyond it, in turns, and no more at once than helps."""



from buildkite_connector.buildkite.quota import Standing, Standings

RESET = Standings(Standing(50, 49, 60.0), Standing(200, 199, 60.0))
